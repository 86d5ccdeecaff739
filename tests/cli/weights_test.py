import json

import numpy as np
import pytest

import tfdet
from tests.weights import fake_source, torch_files
from tfdet import cache_folder, registry
from tfdet.weights import cache, catalog, origins, stored

NAME = "efficientdet-test"


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    fake_source.install(monkeypatch)
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model():
    return registry.create(NAME, num_classes=4)


@pytest.fixture
def foreign(model, tmp_path):
    torch_files.save({"state_dict": fake_source.checkpoint(model)}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def test_list_says_what_to_type(run, tmp_path):
    code, output, _ = run("weights", "list", "mask-rcnn")
    assert code == 0
    assert "torchvision-mask-rcnn-r50" in output and "yolov7" not in output
    assert "37.9" in output and "BSD-3-Clause" in output and "[here]" not in output
    entry = catalog.find("mask-rcnn-r50", "coco")
    cache.place_of(entry).parent.mkdir(parents=True)
    cache.place_of(entry).write_bytes(b"x")
    assert "[here]" in run("weights", "list", "mask-rcnn")[1]
    rows = json.loads(run("weights", "list", "--json")[1])
    assert len(rows) == len(catalog.ENTRIES)
    assert [row["name"] for row in rows if row["is_here"]] == ["torchvision-mask-rcnn-r50"]


def test_list_of_what_is_not_there(refused):
    refused("weights", ("list", "nonsense"), "no weights have 'nonsense' in their name")


def test_inspect_shows_tensors_and_their_project(run, foreign, model):
    code, output, _ = run("weights", "inspect", foreign)
    assert code == 0
    assert "PyTorch (zip), under 'state_dict'" in output and "project: fake" in output
    assert "net.backbone.stem_conv.kernel  3x3x3x8  float32" in output
    assert "net.counter  scalar  int64" in output
    facts = json.loads(run("weights", "inspect", f"fake:{foreign}", "--json")[1])
    assert len(facts["tensors"]) == len(model.weights) + 2
    assert facts["projects"] == ["fake"]
    stored.save(model, foreign.with_name("own.weights.h5"))
    output = run("weights", "inspect", foreign.with_name("own.weights.h5"))[1]
    assert "project: tfdet\n" in output


def test_import_writes_weights_that_load_and_a_report(run, refused, foreign, tmp_path):
    argv = ["import", f"--model_name={NAME}", f"--input={foreign}"]
    argv.append(f"--output={tmp_path}/new/own.weights.h5")
    code, output, _ = run("weights", *argv)
    assert code == 0
    assert "which set activation=relu6, nms.max_detections=60" in output
    made = tfdet.create(NAME, weights=str(tmp_path / "new" / "own.weights.h5"))
    wanted = tfdet.create(NAME, weights=str(foreign))
    assert made.config == wanted.config
    for ours, theirs in zip(made.weights, wanted.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    report = (tmp_path / "new" / "own.report.txt").read_text()
    assert "used     net.backbone.stem_conv.kernel -> backbone/stem_conv/kernel" in report
    assert "unused   net.counter" in report
    refused("weights", argv, "own.weights.h5 is there already; --overwrite replaces it")
    assert run("weights", *argv, "--overwrite", "--float16")[0] == 0
    assert tfdet.create(NAME, weights=str(tmp_path / "new" / "own.weights.h5")).num_classes == 4


def test_import_of_a_backbone_writes_a_backbone(run, model, tmp_path):
    torch_files.save(fake_source.checkpoint(model, backbone_only=True), tmp_path / "b.pth")
    argv = ["import", f"--model_name={NAME}", f"--input={tmp_path}/b.pth"]
    assert run("weights", *argv, f"--output={tmp_path}/b.weights.h5")[0] == 0
    names = stored.layout(tmp_path / "b.weights.h5")
    assert names and all(name.startswith("backbone/") for name in names)
    code, output, _ = run(
        "weights",
        "import",
        "--model_name=retinanet-test",
        f"--input={tmp_path}/b.weights.h5",
        f"--output={tmp_path}/c.weights.h5",
    )
    assert code == 1  # that detector has no key for the activation
    assert not output


def test_import_of_a_training_folder_keeps_its_recipe(run, model_dir, tmp_path, monkeypatch):
    folder = tmp_path / "shapes"
    argv = ["import", f"--input={model_dir}", f"--output={folder}/{NAME}.weights.h5", "--float16"]
    assert run("weights", *argv)[0] == 0
    # As the package has them.
    monkeypatch.setattr(origins, "_SHAPES_FOLDER", folder)
    origins.shapes_models.cache_clear()
    try:
        made = tfdet.create(NAME, weights="shapes")
        assert made.class_names == ("circle", "square", "triangle", "star", "cross")
        trained = tfdet.load_trained(model_dir)
        for ours, theirs in zip(made.weights, trained.weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
        assert "In the package: weights='shapes' of efficientdet-test" in run("weights", "list")[1]
    finally:
        origins.shapes_models.cache_clear()


def test_eval_takes_weights_of_other_projects(run, foreign):
    argv = ("--data=shapes:val:2", f"--model_name={NAME}", f"--weights=fake:{foreign}")
    code, output, errors = run("eval", *argv, "--hparams=model.num_classes=5")
    assert code == 0, errors
    assert "it is of 4 classes and the model of 5, so that the class outputs are new" in output


def test_the_weights_in_the_package_find_the_shapes(run, tmp_path):
    path = tmp_path / "out.json"
    flags = ("--weights=shapes", "--data=shapes:val:40", f"--json_out={path}")
    code, _, _ = run("eval", "--model_name=fcos-nano", *flags)
    assert code == 0
    assert json.loads(path.read_text())["metrics"]["AP"] > 0.75
