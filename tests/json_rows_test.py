"""The rows and the errors are those of the standard library, wherever the window ends."""

import json
import random

import pytest

from tfdet import documents, json_rows
from tfdet.errors import UserError

CONTENT = {
    "info": {"é": [1, 2.5e-3, None], "text": 'a "quoted"\\ line\n\u2028', "deep": [[[]]]},
    "a": [{"x": 1}, 2, -3.5e10, "z\ud800", [], None, True, float("inf"), {"y": [1, {"z": ""}]}],
    "empty": [],
    "b": [{"k": k, "name": "😀" * (k % 3)} for k in range(20)],
    "number": 12345678,
}


class Taken:
    """Keeps the rows of a list."""

    def __init__(self):
        self.rows = None

    def begin(self):
        self.rows = []

    def add(self, row):
        self.rows.append(row)


def _read(path, most=1 << 20):
    lists = {key: Taken() for key in ("a", "b", "empty")}
    found = json_rows.read(path, "rows", most, lists)
    return {key: lists[key].rows for key in found}


def _expected(path):
    content = documents.parse_json(documents.read_text(path, "rows", 1 << 20), str(path))
    content = content if isinstance(content, dict) else {}
    return {k: content[k] for k in ("a", "b", "empty") if isinstance(content.get(k), list)}


def _outcome(read, path):
    try:
        return repr(sorted(read(path).items()))
    except UserError as error:
        return str(error)


@pytest.fixture(params=[1, 7, 4096], ids="window of {}".format)
def window(request, monkeypatch):
    monkeypatch.setattr(json_rows, "_PART_BYTES", request.param)


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_rows_are_those_of_the_whole_text(tmp_path, window, layout, ascii_only):
    text = json.dumps(CONTENT, ensure_ascii=ascii_only, **layout)
    (tmp_path / "r.json").write_bytes(text.encode("utf-8-sig", "surrogatepass"))
    if ascii_only:  # half a character has no place in UTF-8
        assert _read(tmp_path / "r.json") == {key: CONTENT[key] for key in ("a", "b", "empty")}
    assert _outcome(_read, tmp_path / "r.json") == _outcome(_expected, tmp_path / "r.json")


def test_damage_has_the_words_of_the_standard_library(tmp_path, window):
    text = json.dumps(CONTENT, indent=1)
    chance = random.Random(0)
    path = tmp_path / "r.json"
    for _ in range(150):
        start = chance.randrange(len(text))
        more = chance.choice(["", "}", "]", ",", '"', ":", "x", "1e", "\n", "\\", "\ufeff", "[["])
        path.write_text(text[:start] + more + text[start + chance.randrange(4) :])
        expected = _outcome(_expected, path)
        assert _outcome(_read, path) == expected, path.read_text()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"[]",
        b'"text"',
        b"17",
        b'{"a": [1,]}',
        b'{"a": [1] ,}',
        b'{"a": [1]} x',
        b'{"a": [1], "a": 3}',
        b'{"a": [1], "a": [2]}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": [' + b"9" * 5000 + b"]}",
        b'{"a": [1]',
        b'{"a": x, "b": "\xff"}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
    ],
)
def test_odd_files_end_as_before(tmp_path, window, content):
    (tmp_path / "r.json").write_bytes(content)
    assert _outcome(_read, tmp_path / "r.json") == _outcome(_expected, tmp_path / "r.json")


def test_large_and_missing_files_are_named(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(CONTENT))
    with pytest.raises(UserError, match="it has more than 99 bytes"):
        _read(tmp_path / "r.json", most=99)
    with pytest.raises(UserError, match=r"rows .*x\.json cannot be read: No such file"):
        _read(tmp_path / "x.json")
