"""Scales of batch norms: what is counted, and the command with its table and figure."""

import json

import numpy as np
import pytest

from benchmarks import batch_norm_scales
from tests.nas import small_search
from tfdet.backbones.encoding import resnet_encoding


def weights_of(encoding, random):
    """Scales of a backbone, by the names of a detector's weights."""
    found = {"backbone/stem_bn/gamma": encoding.stem, "neck/bn/gamma": 5}
    for place, block in encoding.blocks():
        prefix = f"backbone/stage_{place.stage}_block_{place.index}"
        found |= {f"{prefix}/bn{i}/gamma": width for i, width in enumerate(block.widths, 1)}
        if block.projection:
            found[f"{prefix}/projection_bn/gamma"] = block.out_width
    return {name: random.normal(size=width) for name, width in found.items()}


def test_all_scales_of_the_backbone_count_and_prunable_ones_apart():
    encoding = resnet_encoding((2, 1, 1, 1), stem=8, basic=True)
    weights = weights_of(encoding, np.random.default_rng(0))
    found = batch_norm_scales.facts(encoding, weights)
    every = np.concatenate([abs(v) for k, v in weights.items() if k.startswith("backbone")])
    np.testing.assert_allclose(found["scales"], np.sort(every), atol=1e-5)
    # A basic block's first norm is its inner one; stage 1 has no projection.
    inner = [abs(v) for k, v in weights.items() if "/bn1/" in k]
    outputs = [abs(v) for k, v in weights.items() if "projection_bn" in k]
    prunable = np.sort(np.concatenate([*inner, *outputs]))
    np.testing.assert_allclose(found["prunable"], prunable, atol=1e-5)
    assert set(found["stages"]["1"]) == {"inner"}
    projection = weights["backbone/stage_3_block_0/projection_bn/gamma"]
    assert found["stages"]["3"]["output"] == pytest.approx(abs(projection).mean(), abs=1e-4)


def test_the_command_prints_a_row_for_each_folder_and_draws(tmp_path, capsys):
    for name, encoding in (("a", small_search.BASE), ("b", small_search.LARGER)):
        small_search.write_detector(tmp_path / name, encoding)
    folders = [f"small={tmp_path / 'a'}", f"large={tmp_path / 'b'}"]
    outputs = [f"--figure={tmp_path / 'f' / 'x.png'}", f"--output={tmp_path / 'x.json'}"]
    batch_norm_scales.main([*folders, *outputs])
    said = capsys.readouterr().out
    assert "| small | 0 | " in said and "| large | 0 | " in said
    rows = json.loads((tmp_path / "x.json").read_text())
    assert len(rows[0]["scales"]) < len(rows[1]["scales"])
    assert (tmp_path / "f" / "x.png").stat().st_size > 1000


def test_mistakes_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        batch_norm_scales.main([str(tmp_path), f"--figure={tmp_path / 'x.png'}"])
    assert "needs a name in front of it" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="is not a training folder"):
        batch_norm_scales.main([f"a={tmp_path}", f"--figure={tmp_path / 'x.png'}"])
    assert not list(tmp_path.iterdir())
