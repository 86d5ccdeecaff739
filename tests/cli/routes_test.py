"""Routes of a CADDet through the commands: numbers, figures, and pictures while it trains."""

import json

import numpy as np
import pytest
from PIL import Image

from tfdet import config, registry
from tfdet.data import sources
from tfdet.training import trained

CHANGES = {
    "model.name": "caddet-test",
    "model.supernet.layers": 2,
    "model.supernet.channels": [8, 10, 12],
    "data.train": "shapes:train:8",
    "data.val": "shapes:val:6",
    "train.batch_size": 4,
    "train.num_epochs": 2,
    "train.warmup_epochs": 0.5,
    "train.learning_rate": 0.01,
    "train.learning_rate_batch": 0,
    "train.optimizer": "adam",
    "train.rates": [["router", 2.5]],
    "eval.interval": 2,
    "eval.batch_size": 3,
    "eval.pictures": 2,
}


@pytest.fixture(scope="module")
def caddet_dir(tmp_path_factory):
    """Training folder of a tiny CADDet with random weights, whose routers tell images apart."""
    folder = tmp_path_factory.mktemp("run")
    names = sources.open_dataset("shapes:val:1").class_names
    classes = {"model.num_classes": 5, "model.class_names": list(names)}
    recipe = config.make_recipe(changes={**CHANGES, **classes})
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    settings = {key: value for key, value in recipe.model.items() if key != "name"}
    model = registry.create("caddet-test", **settings)
    rng = np.random.default_rng(0)
    for router in model.backbone.routers:
        router.score.kernel.assign(rng.normal(0, 4, router.score.kernel.shape))
        router.score.bias.assign(rng.normal(0.4, 0.6, router.score.bias.shape))
    model.save_weights(folder / "last.weights.h5")
    return folder


def test_eval_tells_of_routes_and_draws_them(caddet_dir, tmp_path, run):
    numbers, figure = tmp_path / "routes.json", tmp_path / "routes.png"
    files = (f"--json_out={numbers}", f"--figure_out={figure}", f"--report_dir={tmp_path / 'r'}")
    code, output, _ = run("eval", f"--model_dir={caddet_dir}", "--routes", *files)
    assert code == 0
    assert "two images differ in" in output and "cost and difficulty: Pearson" in output
    facts = json.loads(numbers.read_text())
    routes = facts["routes"]
    assert routes["macs"]["mean"] == pytest.approx(facts["macs"], rel=1e-6)
    assert routes["macs"]["min"] <= routes["macs"]["mean"] <= routes["macs"]["max"]
    assert 1 <= routes["routes"] <= 6 and len(routes["nodes"]) == 6
    assert set(routes["correlation"]) == {"objects", "intervals", "size", "difficulty"}
    assert Image.open(figure).size == (1200, 800)
    _check_report(tmp_path / "r", routes)


def _check_report(folder, routes):
    facts = json.loads((folder / "report.json").read_text())["dynamic"]
    costs = [row["macs"] for row in facts["hardest"]]
    assert costs == sorted(costs, reverse=True)
    assert len(costs) == sum(facts["costs"]["count"]) == 6
    assert facts["routes"] == routes
    assert facts["macs"] == pytest.approx(routes["macs"]["mean"])
    assert "scores" not in facts
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in ("effort", "routes", "ends"))
    assert 'id="tradeoff"' not in page


def test_infer_draws_the_route_beside_the_detections(caddet_dir, tmp_path, run):
    (tmp_path / "photos").mkdir()
    dataset = sources.open_dataset("shapes:val:1")
    (tmp_path / "photos" / "a.png").write_bytes(dataset.encoded(0))
    argv = (f"--model_dir={caddet_dir}", f"--input={tmp_path / 'photos'}")
    code, _, _ = run("infer", *argv, f"--output_dir={tmp_path / 'found'}", "--draw_routes")
    assert code == 0
    width, height = Image.open(tmp_path / "found" / "a.jpg").size
    assert width > 256 + 200 and height >= 256
    (result,) = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert result["macs"] > 0


def test_detectors_without_routes_are_refused(model_dir, tmp_path, refused):
    refused("eval", [f"--model_dir={model_dir}", "--routes"], "has no routes")
    (tmp_path / "a.png").write_bytes(sources.open_dataset("shapes:val:1").encoded(0))
    argv = [f"--model_dir={model_dir}", f"--input={tmp_path}", f"--output_dir={tmp_path / 'x'}"]
    refused("infer", [*argv, "--draw_routes"], "--draw_routes: this detector has no routes")
    wrong = [f"--model_dir={model_dir}", "--routes", "--figure_out=x.gif"]
    refused("eval", wrong, "--figure_out=x.gif must end with .png", code=2)
    refused(
        "eval", [f"--model_dir={model_dir}", "--figure_out=x.png"], "belongs to --tradeoff", code=2
    )


@pytest.mark.slow
def test_training_leaves_pictures_of_routes(tmp_path, run):
    changes = ",".join(f"{key}={value}" for key, value in CHANGES.items())
    code, _, _ = run("train", f"--hparams={changes}", f"--model_dir={tmp_path / 'run'}")
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir())
    assert names == ["epoch_0002.jpg", "routes_0002.png"]
    width, height = Image.open(tmp_path / "run" / "pictures" / "epoch_0002.jpg").size
    assert height > 2 * 360 and width > 3 * 360
    text = (tmp_path / "run" / "logs" / "history.jsonl").read_text()
    first, second = (json.loads(line) for line in text.splitlines())
    assert first["global_loss"] == 0 < second["global_loss"]
