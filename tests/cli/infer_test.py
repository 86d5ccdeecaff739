"""Tests of `tfdet-infer` and `tfdet-export`, which belong together."""

import contextlib
import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import tfdet
from tfdet.cli import export, infer, inspect
from tfdet.data import sources
from tfdet.serving.export import check_replaceable


@pytest.fixture(scope="module")
def exported(model_dir, tmp_path_factory):
    """Folder of the SavedModel, and what the command said."""
    path, said = tmp_path_factory.mktemp("export") / "saved_model", io.StringIO()
    argv = [f"--model_dir={model_dir}", f"--output={path}"]
    with contextlib.redirect_stdout(said):
        assert export.COMMAND.run(export.main, argv) == 0
    return path, said.getvalue()


@pytest.fixture
def saved_model(exported):
    return exported[0]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    dataset = sources.open_dataset("shapes:val")
    for i, name in enumerate(("a.png", "b.PNG", "more/a.png")):
        (folder / name).write_bytes(dataset.encoded(i))
    (folder / "notes.txt").write_text("not an image")
    return folder


def _run(*argv):
    return infer.COMMAND.run(infer.main, argv)


def test_model_and_saved_model_find_the_same(model_dir, saved_model, photos, tmp_path, capsys):
    results = []
    for i, model in enumerate((f"--model_dir={model_dir}", f"--saved_model={saved_model}")):
        output = tmp_path / str(i)
        argv = (f"--input={photos}", f"--output_dir={output}", "--min_score=0.005")
        assert _run(model, *argv) == 0
        assert sorted(path.name for path in output.iterdir()) == [
            "a.jpg",
            "b.jpg",
            "detections.json",
        ]
        results.append(json.loads((output / "detections.json").read_text()))
    assert [len(image["detections"]) for image in results[0]] == [100, 100]
    for images in zip(*results, strict=True):
        assert images[0]["size"] == [256, 256]
        scores = [[row["score"] for row in image["detections"]] for image in images]
        np.testing.assert_allclose(*scores, atol=2e-5)
    row = results[0][0]["detections"][0]
    assert row["class"] in ("circle", "square", "triangle", "star", "cross")
    assert row["category_id"] in (1, 2, 3, 4, 5)
    said = capsys.readouterr().out
    assert "200 detections in 2 images" in said
    assert "throughput: " in said and "ms an image" in said


def test_pictures_of_equal_names_do_not_meet(saved_model, photos, tmp_path):
    output = tmp_path / "out"
    pattern = f"{photos}/**/*.png"
    assert _run(f"--saved_model={saved_model}", f"--input={pattern}", f"--output_dir={output}") == 0
    results = json.loads((output / "detections.json").read_text())
    assert len({image["picture"] for image in results}) == len(results) == 2
    for image in results:
        assert Image.open(output / image["picture"]).size == (256, 256)


def test_damaged_images_are_left_out_named_and_change_the_exit_code(
    saved_model, photos, tmp_path, capsys
):
    whole = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").write_bytes(b"")
    output = tmp_path / "out"
    argv = (f"--input={photos}/*.*", f"--output_dir={output}")
    assert _run(f"--saved_model={saved_model}", *argv) == 1
    error = capsys.readouterr().err
    for name in ("cut.png: truncated image", "empty.jpg: unreadable", "notes.txt: unreadable"):
        assert name in error
    results = json.loads((output / "detections.json").read_text())
    assert sorted(pathlib.Path(image["file"]).name for image in results) == ["a.png", "b.PNG"]


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (("--input=x", "--output_dir=y"), 2, "give --model_dir or --model_name or --saved_model"),
        (("--saved_model=m", "--input=x"), 2, "--output_dir must be given"),
        (("--saved_model=m", "--input=x", "--output_dir=y", "--min_score=30"), 2, "got 30"),
        (("--saved_model=m", "--input=/no/*.jpg", "--output_dir=y"), 1, "no file matches"),
        (("--saved_model=m", "--model_dir=n", "--input=x", "--output_dir=y"), 2, "only one of"),
    ],
)
def test_mistakes_of_infer_end_with_one_sentence(argv, code, sentence, capsys):
    assert _run(*argv) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_folder_without_a_saved_model_is_refused(photos, tmp_path, capsys):
    argv = (f"--input={photos}", f"--output_dir={tmp_path / 'out'}")
    assert _run(f"--saved_model={photos}", *argv) == 1
    assert "is not a SavedModel: it has no saved_model.pb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (("--model_dir=a",), 2, "--output must be given"),
        (("--output=b",), 2, "give --model_dir or --model_name"),
        (
            ("--model_dir=a", "--output=b", "--format=coreml"),
            2,
            "litert, onnx, openvino, got 'coreml'",
        ),
        (("--model_dir=/no/run", "--output=b"), 1, "there is no folder /no/run"),
    ],
)
def test_mistakes_of_export_end_with_one_sentence(argv, code, sentence, capsys):
    assert export.COMMAND.run(export.main, argv) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_export_says_what_it_compared(exported):
    path, said = exported
    assert f"wrote {path}: run in a new process without tfdet" in said
    assert "800 detections equal the model's" in said


def test_an_export_is_shown_with_its_recipe(saved_model, capsys):
    argv = [f"--saved_model={saved_model}", "--format=json"]
    assert inspect.COMMAND.run(inspect.main, argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "ready: it runs here"
    assert found["class_ids"] == [1, 2, 3, 4, 5]
    assert found["recipe"]["model"]["name"] == "efficientdet-test"
    assert found["recipe"]["data"]["train"] == "shapes:train"
    assert found["versions"]["tfdet"] == tfdet.__version__


def test_the_recipe_has_what_hparams_changed(model_dir, tmp_path):
    argv = [f"--model_dir={model_dir}", "--output=x", "--hparams=model.nms.max_detections=7"]
    recipe = export._recipe(export.COMMAND.parse(argv))
    assert recipe["model"]["nms"] == {"max_detections": 7}
    assert recipe["model"]["num_classes"] == 5
    assert export._recipe(export.COMMAND.parse(["--model_name=a", "--output=x"])) is None


def test_what_lies_in_an_export_may_be_replaced(saved_model):
    assert (saved_model / "assets.extra" / "tf_serving_warmup_requests").is_file()
    check_replaceable(saved_model)


def test_foreign_folder_is_not_overwritten(model_dir, photos, capsys):
    argv = [f"--model_dir={model_dir}", f"--output={photos}"]
    assert export.COMMAND.run(export.main, argv) == 1
    assert "exists and is not a SavedModel" in capsys.readouterr().err
    assert (photos / "a.png").is_file()
