"""A CADDet through the commands: a table from effort to threshold, and what it is good for."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from tfdet import config, registry
from tfdet.data import sources
from tfdet.training import router_step, trained

CHANGES = {
    "model.name": "caddet-test",
    "model.supernet.layers": 2,
    "model.supernet.channels": [8, 10],
    "model.num_classes": 5,
    "model.class_names": ["circle", "square", "triangle", "star", "cross"],
    "model.class_ids": [1, 2, 3, 4, 5],
    "data.train": "shapes:train",
    "data.val": "shapes:val:6",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A training folder of a tiny CADDet with random weights and gates of all sizes."""
    folder = tmp_path_factory.mktemp("made")
    recipe = config.make_recipe(changes=CHANGES)
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    keras.utils.set_random_seed(0)
    settings = {key: value for key, value in recipe.model.items() if key != "name"}
    model = registry.create("caddet-test", **settings)
    rng = np.random.default_rng(1)
    for router in model.backbone.routers:
        router.score.kernel.assign(rng.normal(0, 2, router.score.kernel.shape))
        router.score.bias.assign(rng.normal(0.6, 0.3, router.score.bias.shape))
    model.save_weights(folder / "last.weights.h5")
    return folder


@pytest.fixture
def bare(made, tmp_path):
    """A copy of it, without a table."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def test_commands_meet_a_cost(run, bare, tmp_path):
    code, said, _ = run("eval", f"--model_dir={bare}", "--calibrate", "--batch_size=3")
    assert code == 0 and "0.000100" in said
    table = trained.load_trained(bare).calibration
    assert table.images == 6 and table.macs[0] < table.macs[-1]
    target, path = (table.macs[0] + table.macs[-1]) / 2, tmp_path / "out.json"
    flags = [f"--model_dir={bare}", f"--target_madds={target}"]
    code, said, _ = run("eval", *flags, f"--json_out={path}", "--batch_size=3")
    assert code == 0 and "threshold 0." in said
    # A gate is a large part of what these few images open.
    found = json.loads(path.read_text())["macs"]
    assert abs(found - target) < 0.3 * (table.macs[-1] - table.macs[0])
    photos, output = tmp_path / "photos", tmp_path / "found"
    photos.mkdir()
    (photos / "0.png").write_bytes(sources.open_dataset("shapes:val:1").encoded(0))
    code, said, _ = run("infer", *flags, f"--input={photos}", f"--output_dir={output}")
    assert code == 0 and "GMAC per image" in said
    (image,) = json.loads((output / "detections.json").read_text())
    low, high = trained.load_trained(bare).cost_ends
    assert low <= image["macs"] <= high


@pytest.mark.slow
def test_trade_off_is_measured_at_the_thresholds_of_the_table(run, bare, tmp_path):
    model, dataset = trained.load_trained(bare), sources.open_dataset("shapes:val:6")
    router_step.calibrate(model, bare, dataset, batch_size=3)
    path, figure = tmp_path / "tradeoff.json", tmp_path / "tradeoff.png"
    flags = (f"--json_out={path}", f"--figure_out={figure}", "--batch_size=3")
    code, said, _ = run("eval", f"--model_dir={bare}", "--tradeoff", *flags)
    assert code == 0 and "11 targets met within" in said
    result = json.loads(path.read_text())
    macs = [row["macs"] for row in result["curve"]]
    assert len(macs) == 11 and macs == sorted(macs)
    assert result["curve"][0]["share"] == pytest.approx(0, abs=1e-6)
    assert [row["reached"] for row in result["targets"]["target_madds"]] == macs
    assert Image.open(figure).size[0] > 800


def test_a_trade_off_needs_a_table(refused, bare):
    refused("eval", [f"--model_dir={bare}", "--tradeoff"], "tfdet-eval --calibrate")
