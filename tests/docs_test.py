"""What the documents show runs as it stands there: Python code, command lines, links."""

import importlib
import pathlib
import re
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

import tfdet
from tfdet.recipes import catalog

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
}
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A block that begins so is a file, which later blocks import.
_FILE = re.compile(r"# (\w+\.py)\n")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


# Python


def _dynamic():
    model = tfdet.create("dy-efficientdet-test")
    images = np.zeros((2, 64, 64, 3), np.uint8)
    model.calibrate([np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)])
    return {"model": model, "images": images}


def _caddet():
    batches = [np.zeros((2, 256, 256, 3), np.uint8)]
    return {"batches": batches}


def _two_stage():
    return {"model": tfdet.create("faster-rcnn-test", backbone="resnet-test")}


def _teachers():
    student, teacher = (tfdet.create("faster-rcnn-test", num_classes=5) for _ in range(2))
    images = np.zeros((2, 64, 64, 3), np.uint8)
    targets = {
        "boxes": np.array([[[8, 8, 40, 40]]] * 2, np.float32),
        "labels": np.zeros((2, 1), np.int32),
    }
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensors((images, targets))
    return {"student": student, "teacher": teacher, "batches": batches}


def _exported():
    tfdet.export(tfdet.create("efficientdet-test"), "served/cells_onnx")
    images = np.zeros((1, 64, 64, 3), np.uint8)
    pathlib.Path("photos").mkdir()
    Image.fromarray(images[0]).save("photos/a.png")
    return {"images": images}


def _tfdet():
    return {"tfdet": tfdet}


# Pages with Python, and the names that their code takes as given.
GIVEN = {
    "docs/caddet.md": _caddet,
    "docs/dynamic.md": _dynamic,
    "docs/dynamicdet.md": _tfdet,
    "docs/extending.md": dict,
    "docs/joint_detnas.md": _two_stage,
}
# Those that train, measure or export take a minute each.
SLOW_GIVEN = {
    "README.md": dict,
    "docs/deploy.md": dict,
    "docs/evaluation.md": dict,
    "docs/export.md": _exported,
    "docs/finetuning.md": dict,
    "docs/own_images.md": dict,
    "docs/start.md": dict,
    "docs/teachers.md": _teachers,
}
# Fragments that cannot run alone, each with the reason.
FRAGMENTS = {
    "docs/data.md": "opens VOC2012 from the reader's disk",
    "docs/serving.md": "starts Ray, see tests/serving/ray_app_test.py",
    "docs/weights.md": "downloads weights",
}


@pytest.fixture
def names():
    """The names of a page's code; classes that it registers would keep them, models and all."""
    names = {}
    yield names
    names.clear()


def _run(page, folder, monkeypatch, given, names):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names |= {"__name__": pathlib.Path(page).stem} | given()
    for block in _BLOCK.finditer(PAGES[page]):
        file = _FILE.match(block[1])
        if file:
            (folder / file[1]).write_text(block[1])
            continue
        line = PAGES[page][: block.start(1)].count("\n")
        # Errors name the line of the page.
        exec(compile("\n" * line + block[1], page, "exec"), names)


@pytest.mark.parametrize("page", GIVEN)
def test_the_python_code_of_the_page_runs(page, tmp_path, monkeypatch, names):
    _run(page, tmp_path, monkeypatch, GIVEN[page], names)
    if page != "docs/extending.md":
        return
    assert set(names["detections"]) == {"boxes", "scores", "labels", "count"}
    assert {"my_detectors", "my_dynamic"} <= set(sys.modules)
    # Half of the effort is half of what can be saved, to one image in twelve.
    share = (names["cost"] - names["least"]) / (names["most"] - names["least"])
    assert abs(share - 0.5) <= 1 / 12


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW_GIVEN)
def test_the_python_code_of_the_page_that_trains_or_exports_runs(
    page, tmp_path, monkeypatch, names
):
    _run(page, tmp_path, monkeypatch, SLOW_GIVEN[page], names)


def test_no_page_with_python_is_left_out():
    with_python = {page for page, text in PAGES.items() if _BLOCK.search(text)}
    assert with_python == (set(GIVEN) | set(SLOW_GIVEN) | set(FRAGMENTS)) & with_python
    assert set(GIVEN) | set(SLOW_GIVEN) <= with_python


# Command lines


def command_lines(text):
    """Command lines of code blocks, continued lines joined, without comments."""
    text = re.sub(r"\\\n\s*", " ", text)
    for line in text.splitlines():
        found = re.match(r"(?:    |\$ )?(?:[A-Z_]+=\S* )*(tfdet-\w+ .*)", line)
        if found and "..." not in found[1]:
            yield shlex.split(found[1], comments=True)


LINES = [(page, words) for page, text in PAGES.items() for words in command_lines(text)]


def test_command_lines_are_found():
    pages = {page for page, _ in LINES}
    assert len(LINES) > 100
    assert {"README.md", "docs/start.md", "docs/results/dynamicdet.md"} <= pages


@pytest.mark.parametrize("page", sorted({page for page, _ in LINES}))
def test_the_flags_and_recipes_of_command_lines_are_there(page):
    for words in (words for where, words in LINES if where == page):
        check_line(words)


def check_line(words):
    """Raises `UserError` where a flag or a recipe of a command line is not there."""
    module = importlib.import_module(f"tfdet.cli.{words[0].removeprefix('tfdet-')}")
    options = module.COMMAND.parse(words[1:])
    for item in getattr(options, "hparams", []):
        if "=" not in item and not item.endswith(".yaml"):
            assert catalog.path(item).is_file(), words


# Links


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```|`[^`]*`", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for target in _LINK.findall(text):
        if re.match(r"\w+:", target) or target.startswith("reference/"):
            continue  # an address; a page that the build of the site makes
        name, _, heading = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), f"{page}: {target}"
        if heading and path.suffix == ".md":
            assert heading in headings(path.read_text("utf-8")), f"{page}: {target}"


def headings(text):
    """What links call the headings of a page."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"\s", "-", title) for title in plain}
