"""The notebooks run from their first cell to their last, with small numbers."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests import docs_test

NOTEBOOKS = sorted((docs_test.DOCS / "notebooks").glob("*.ipynb"))
MOST_BYTES = 500_000
# Numbers of cells in place of theirs, so that a run takes minutes.
SMALL = {
    "own_images": {"IMAGES": {"train": 16, "val": 8}, "EPOCHS": 1, "SIZE": 64},
    "dynamic_tradeoff": {},  # reads TFDET_QUICK
}


def code_cells(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source, names):
    """Python as it stands; lines that begin with ! as a shell's, with {expressions} filled in."""
    source = re.sub(r"\\\n\s*", " ", source)
    for part in re.split(r"^(!.*)$", source, flags=re.MULTILINE):
        if part.startswith("!"):
            command = re.sub(r"\{([^{}]+)\}", lambda found: str(eval(found[1], names)), part[1:])
            subprocess.run(command, shell=True, check=True)
        elif part.strip():
            exec(compile(part, "notebook", "exec"), names)


def test_there_are_notebooks_and_they_are_small():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)
    assert all(path.stat().st_size < MOST_BYTES for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_commands_of_notebooks_have_flags_that_are_there(path):
    text = "\n".join(code_cells(path)).replace("!tfdet", "tfdet")
    text = re.sub(r"\{(IMAGES|EPOCHS|SIZE)[^}]*\}", "1", text).replace("{VAL}", "shapes:val")
    text = re.sub(r"\{[A-Z]+\}", "", text)  # more flags, or none
    lines = list(docs_test.command_lines(text))
    assert len(lines) >= 3
    for words in lines:
        docs_test.check_line(words)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDET_QUICK", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    programs = pathlib.Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    names = {"__name__": path.stem}
    for number, source in enumerate(code_cells(path)):
        run_cell(source, names)
        if number == 0:
            names |= SMALL[path.stem]
    made = {"own_images": "served/cells/1/saved_model.pb", "dynamic_tradeoff": "curve.png"}
    assert pathlib.Path(made[path.stem]).is_file()
