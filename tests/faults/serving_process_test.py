"""Signals, full disks and terminals without letters, with real processes."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.faults import processes
from tests.faults import serving_cases as cases

PICTURES = 200


def _infer(folder: pathlib.Path, **options) -> processes.Process:
    first = cases.photo(folder / "photos" / "000.png", (260, 300))
    for i in range(1, PICTURES):
        shutil.copy(first, first.with_name(f"{i:03}.png"))
    argv = cases.infer("--input=photos", "--min_score=0.01")
    return processes.Process(argv, folder, **options)


def _entries(folder: pathlib.Path) -> list[dict]:
    """What there is, each with a whole picture."""
    from PIL import Image

    entries = json.loads((folder / "out" / "detections.json").read_text())
    for entry in entries:
        Image.open(folder / "out" / entry["picture"]).load()
    return entries


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
def test_b12_a_stopped_inference_keeps_what_it_has(tmp_path, number, code, sentence):
    process = _infer(tmp_path)
    process.wait_until(lambda: len(list((tmp_path / "out").glob("*.jpg"))) > 5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    found = _entries(tmp_path)
    assert process.returncode == code
    assert 0 < len(found) < PICTURES
    assert f"{sentence}: out/detections.json has {len(found)} of {PICTURES} images" in errors
    assert "Traceback" not in errors
    assert {x.name for x in (tmp_path / "out").glob("*.jpg")} == {x["picture"] for x in found}


def test_b12_a_killed_inference_leaves_valid_files(tmp_path):
    process = _infer(tmp_path)
    process.wait_until(lambda: len(list((tmp_path / "out").glob("*.jpg"))) > 5)
    time.sleep(1.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < len(_entries(tmp_path)) <= PICTURES


def test_p22_a_full_disk_leaves_whole_pictures_and_their_entries(tmp_path):
    limit = 150_000  # bytes of a file: detections.json is the first that wants more
    process = _infer(tmp_path, most=limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    found = _entries(tmp_path)
    assert found
    assert f"out/detections.json has {len(found)} of {PICTURES} images" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_b15_p21_a_terminal_of_ascii_gets_all_numbers_and_each_damaged_image_once(tmp_path):
    cases.photo(tmp_path / "good.png")
    (tmp_path / "Füße.jpg").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    sizes = {"height": 48, "width": 40}
    names = enumerate(("good.png", "Füße.jpg"))
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 20]} for i in range(2)]
    content = {
        "images": [{"id": i, "file_name": name, **sizes} for i, name in names],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "circle"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    # Python chooses the letters of a terminal when it starts.
    _, *argv = cases.evaluate("--data=coco:a.json:.")
    done = subprocess.run(
        [sys.executable, "-m", "tfdet.cli.eval", *argv],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    (line,) = [x for x in lines if not re.match(r"\d+/\d+ images", x)]
    assert line.startswith(r"tfdet-eval: F\xfc\xdfe.jpg: truncated image (")
    assert "area < 32^2" in done.stdout
    assert "AP of each class" in done.stdout
