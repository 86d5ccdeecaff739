import pytest


def test_view_writes_a_page_beside_a_model_and_with_a_training_batch(run, tmp_path):
    page = tmp_path / "view.html"
    argv = ["view", "shapes:val:9", f"--output={page}", "--count=4"]
    recipe = [
        "--hparams=model.name=efficientdet-test,train.batch_size=3,data.augment.jitter_min=0.5",
        "--image_size=96,64",
    ]
    code, said, _ = run("data", *argv, *recipe)
    assert code == 0 and f"wrote {page}" in said
    html = page.read_text()
    assert html.count("data:image/jpeg") == 4 + 3
    assert "3 of the 3 images of the first batch as efficientdet-test" in html
    assert "64 x 96" in html and "positives by level" in html
    code, _, _ = run("data", *argv, "--model_name=yolov7-test", "--seed=1")
    assert code == 0 and "chosen during training" in page.read_text()  # its own page is replaced
    assert "A training batch" not in page.read_text()


def test_view_shows_images_of_problems(run, tmp_path):
    (tmp_path / "a").mkdir()
    code, _, _ = run("data", "make", "shapes", "--split=val", "--count=3", f"--output={tmp_path}/a")
    annotations = tmp_path / "a" / "annotations" / "instances_val.json"
    text = annotations.read_text().replace('"height": 256', '"height": 200')
    annotations.write_text(text)
    page = tmp_path / "view.html"
    code, _, _ = run("data", "view", f"coco:{tmp_path}/a", f"--output={page}", "--count=1")
    html = page.read_text()
    assert code == 0 and "image has another size than in its annotation" in html
    assert html.count("data:image/jpeg") >= 1 + 3 and "Assumed: " in html


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--output=page.txt"], 2, "must be a name such as view.html"),
        (["--output=theirs.html"], 1, "did not write it"),
        (["--output=folder.html"], 2, "is a folder"),
        (["--count=1000"], 2, "at most 200"),
        (["--hparams=model.name=fcos-test,train.batch_size=64"], 1, "fewer than one batch of 64"),
        (["--hparams=train.batch=3"], 1, "batch"),
        (["--num_shards=2"], 2, "view takes no --num_shards"),
    ],
)
def test_what_cannot_be_shown_is_refused(refused, tmp_path, monkeypatch, flags, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.html").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    refused("data", ("view", "shapes:val:3", *flags), message, code=code)
    assert (tmp_path / "theirs.html").read_text() == "mine"
