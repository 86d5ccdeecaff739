"""Tests of the streams that take any text."""

import io
import sys

import pytest

from tfdet import progress
from tfdet.cli import terminal


def _written(text, encoding="utf-8"):
    raw = io.BytesIO()
    stream = terminal.AnyText(io.TextIOWrapper(raw, encoding, errors="strict", newline=""))
    print(text, file=stream, flush=True)
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("area < 32² 人\n", "utf-8", "area < 32² 人\n\n"),
        ("area < 32² 人", "ascii", "area < 32^2 \\u4eba\n"),
        ("|██·|", "latin-1", "|##.|\n"),
        ("\udcff.jpg", "utf-8", "\\udcff.jpg\n"),
        ("\x1b[2Jcat\r", "utf-8", "\\x1b[2Jcat\\r\n"),
    ],
)
def test_any_text_is_written(text, encoding, written):
    assert _written(text, encoding) == written


def test_progress_lines_still_clear_themselves():
    raw = io.StringIO()
    raw.isatty = lambda: True
    line = progress.Line(terminal.AnyText(raw))
    line.show("1/2 \x1b[2J")
    line.finish("2/2")
    assert raw.getvalue() == f"{progress.CLEAR_LINE}1/2 \\x1b[2J{progress.CLEAR_LINE}2/2\n"


def test_streams_are_as_before_behind_the_block(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    before = sys.stdout
    with terminal.any_text():
        assert isinstance(sys.stdout, terminal.AnyText)
        assert sys.stderr is None
    assert sys.stdout is before
