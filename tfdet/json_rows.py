"""JSON files whose lists are too long to be held as Python objects: read row by row.

COCO's annotations take 3 GB as dicts and lists; a window of their text takes a few MB.
"""

import codecs
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NoReturn, Protocol

from tfdet import documents

_PART_BYTES = 1 << 22
_space = re.compile(r"[ \t\n\r]*").match
_scan = json.JSONDecoder().scan_once
_CUT = 2  # letters behind a number that is cut off, at most: 1|e+


class Rows(Protocol):
    """What takes the rows of a list."""

    def begin(self) -> None:
        """A list begins; rows of an earlier one, under the same key, do not count."""

    def add(self, row: object) -> None:
        """The next row."""


def read(path: str | os.PathLike[str], what: str, most: int, lists: Mapping[str, Rows]) -> set[str]:
    """Reads the lists of the object that a JSON file holds.

    Args:
        path: of the file.
        what: it is, for messages.
        most: bytes that it may have.
        lists: key of the object -> what takes the rows of its list.

    Returns:
        Those of the keys that have a list. A file that is not JSON is a `UserError`, in the words
        of `documents.parse_json`; rows may have been taken by then.
    """
    try:
        with open(path, "rb") as file:
            return _read(_Window(file, path, what, most), lists)
    except OSError as error:
        raise documents.unreadable(path, what, error) from None


def _read(window: "_Window", lists: Mapping[str, Rows]) -> set[str]:
    found: set[str] = set()
    if window.next_letter() == "{":
        for key in window.entries():
            found.discard(key)
            if key in lists and window.next_letter() == "[":
                lists[key].begin()
                add = lists[key].add
                for row in window.rows():
                    add(row)
                found.add(key)
            else:
                window.value()
    else:
        window.value()
    if window.next_letter():
        window.refuse("Extra data")
    return found


class _Window:
    """A part of a text, which moves on as it is read."""

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str], what: str, most: int):
        self._file = file
        self._path = path
        self._what = what
        self._most = most
        self._num_bytes = 0
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text = ""
        self._is_over = False
        self._position = 0
        # All before the mark is sound. It may leave the window: `_before` stands for it, as short
        # as it can be, so that what follows has the same error as in the whole text.
        self._mark = 0
        self._before = ""
        self._gone, self._gone_lines, self._gone_column = 0, 0, 0  # letters before the window

    def next_letter(self) -> str:
        """Passes space and returns the letter behind it; "" at the end."""
        while True:
            self._position = _space(self._text, self._position).end()
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._grow():
                return ""

    def value(self) -> object:
        """Passes the value that stands here and returns it."""
        while True:
            try:
                value, end = _scan(self._text, self._position)
            except RecursionError:
                self._fail()
            except (StopIteration, ValueError):
                if not self._grow():
                    self._fail()
                continue
            if self._is_over or len(self._text) - end > _CUT:
                self._position = end
                return value
            self._grow()

    def rows(self) -> Iterator[object]:
        """Passes the list that begins here, value by value."""
        self._set_mark('{"":')
        self._position += 1
        letter = self.next_letter()
        while letter != "]":
            yield self.value()
            self._set_mark("[0")
            if self._text.startswith(", {", self._position):  # what comes next nearly always
                self._position += 2
                continue
            letter = self.next_letter()
            if letter == ",":
                self._position += 1
                letter = self.next_letter()
                if letter == "]":
                    self._fail()
            elif letter != "]":
                self._fail()
        self._position += 1

    def entries(self) -> Iterator[str]:
        """Passes the object that begins here, key by key; the caller passes the values."""
        self._set_mark("")
        self._position += 1
        letter = self.next_letter()
        while letter != "}":
            yield self._key()
            self._set_mark('{"":0')
            letter = self.next_letter()
            if letter == ",":
                self._position += 1
                letter = self.next_letter()
                if letter == "}":
                    self._fail()
            elif letter != "}":
                self._fail()
        self._position += 1

    def refuse(self, problem: str, position: int | None = None) -> NoReturn:
        """Raises the error of a problem here, or at another place in the window."""
        while self._grow():  # what cannot be decoded is reported first
            pass
        place = self._position if position is None else position
        lines = self._gone_lines + self._text.count("\n", 0, place)
        column = place - self._text.rfind("\n", 0, place)
        if "\n" not in self._text[:place]:
            column += self._gone_column
        place += self._gone
        where = f"line {lines + 1} column {column} (char {place})"
        raise documents.not_json(self._path, f"{problem}: {where}")

    def _key(self) -> str:
        if self.next_letter() != '"':
            self._fail()
        key = self.value()
        if self.next_letter() != ":":
            self._fail()
        self._position += 1
        self.next_letter()
        return str(key)

    def _set_mark(self, before: str) -> None:
        self._mark = self._position
        self._before = before

    def _grow(self) -> bool:
        """Reads on, as much as there is already or more; False at the end."""
        if self._is_over:
            return False
        mark, text = self._mark, self._text
        self._gone += mark
        self._gone_lines += text.count("\n", 0, mark)
        line = text.rfind("\n", 0, mark)
        self._gone_column = mark - line - 1 if line >= 0 else self._gone_column + mark
        self._position -= mark
        self._mark = 0
        part = self._file.read(max(_PART_BYTES, len(text) - mark))
        self._num_bytes += len(part)
        if self._num_bytes > self._most:
            raise documents.too_large(self._path, self._what, self._most)
        self._is_over = not part
        try:
            self._text = text[mark:] + self._decode(part, self._is_over)
        except UnicodeDecodeError:
            raise documents.not_text(self._path, self._what) from None
        return not self._is_over

    def _fail(self) -> NoReturn:
        """Raises the error that the standard library has for what follows the mark."""
        while self._grow():
            pass
        try:
            json.loads(self._before + self._text[self._mark :])
        except json.JSONDecodeError as error:
            self.refuse(error.msg, self._mark + error.pos - len(self._before))
        except (ValueError, RecursionError) as error:
            raise documents.not_json(self._path, error) from None
        raise AssertionError("a text that was refused is JSON")
