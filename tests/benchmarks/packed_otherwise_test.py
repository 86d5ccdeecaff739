"""A packed head tested otherwise than it was trained: what each way leaves out, and the command."""

import json

import keras
import numpy as np
import pytest

import tfdet
from benchmarks import packed_otherwise
from tests.nas import small_search
from tfdet.layers.conv_block import ConvBlock
from tfdet.ops import pack as pack_ops

RANDOM = np.random.default_rng(0)
SIZES = ((8, 8), (4, 4), (2, 2), (1, 1), (1, 1))


@pytest.fixture
def layout():
    return pack_ops.layout(SIZES, 4)


@pytest.fixture
def packed(layout):
    return RANDOM.normal(size=(2, layout.height, layout.width, 4)).astype(np.float32)


@pytest.fixture
def block(packed):
    keras.utils.set_random_seed(0)
    block = ConvBlock(4, 3, groups=2)
    block.build([packed.shape])
    block.norm.set_weights([np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 0, 1])])
    return block


def test_a_map_alone_sees_zeros_beyond_its_border(layout, packed, block):
    whole = np.asarray(block.conv(packed))
    found = np.asarray(packed_otherwise._alone(block.conv, block.conv.call, layout)(packed))
    expected = whole.copy()  # gaps see what they saw
    for left, top, right, bottom in layout.boxes:
        own = block.conv(packed[:, top:bottom, left:right])
        expected[:, top:bottom, left:right] = own
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - whole).max() > 1e-3


def test_norms_of_maps_are_joint_norms(layout, packed, block):
    maps = [packed[:, top:bottom, left:right] for left, top, right, bottom in layout.boxes]
    expected = block._joint_norm(maps)
    found = packed_otherwise._of_maps(block.norm, block.norm.call, layout)(packed)
    for one, (left, top, right, bottom) in zip(expected, layout.boxes, strict=True):
        np.testing.assert_allclose(found[:, top:bottom, left:right], one, atol=1e-5)
    assert np.abs(found - block.norm(packed)).max() > 1e-3


@pytest.mark.parametrize("way", ["alone", "maps"])
def test_a_detector_is_changed(way):
    model = tfdet.create("packdet-test", num_classes=2)
    images = RANDOM.uniform(0, 255, (1, *model.image_size, 3)).astype(np.float32)
    before = model(images)["class_logits"]
    packed_otherwise.separate(model, way)
    after = model(images)["class_logits"]
    assert before.shape == after.shape
    assert np.abs(np.asarray(before) - np.asarray(after)).max() > 1e-4


def test_the_command_prints_a_row_for_each_way(tmp_path, capsys):
    folder = small_search.write_detector(tmp_path / "packdet_0" / "step_1", None, "packdet-test")
    packed_otherwise.main([f"packed={folder}", f"--output={tmp_path / 'rows.jsonl'}"])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["tested"] for row in rows] == list(packed_otherwise.WAYS)
    assert {row["run"] for row in rows} == {"packdet_0"}
    assert "| packed | alone | " in capsys.readouterr().out


def test_mistakes_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        packed_otherwise.main([str(tmp_path)])
    assert "needs a name in front of it" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="is not a training folder"):
        packed_otherwise.main([f"a={tmp_path}"])
    folder = small_search.write_detector(tmp_path / "fcos", None, "fcos-test")
    with pytest.raises(SystemExit, match="fcos-test is not a PackDet"):
        packed_otherwise.main([f"a={folder}"])
