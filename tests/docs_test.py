"""The Python code of docs/extending.md runs as it stands there."""

import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A block that begins so is a file, which later blocks import.
_FILE = re.compile(r"# (\w+\.py)\n")


def test_extending_runs(tmp_path, monkeypatch):
    page = (DOCS / "extending.md").read_text()
    blocks = list(_BLOCK.finditer(page))
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "extending"}
    for block in blocks:
        file = _FILE.match(block[1])
        if file:
            (tmp_path / file[1]).write_text(block[1])
            continue
        line = page[: block.start(1)].count("\n")
        # Errors name the line of the page.
        exec(compile("\n" * line + block[1], "docs/extending.md", "exec"), names)
    assert set(names["detections"]) == {"boxes", "scores", "labels", "count"}
    assert {"my_detectors", "my_dynamic"} <= set(sys.modules)
    # Half of the effort is half of what can be saved, to one image in twelve.
    share = (names["cost"] - names["least"]) / (names["most"] - names["least"])
    assert abs(share - 0.5) <= 1 / 12
