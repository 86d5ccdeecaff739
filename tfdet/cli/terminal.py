"""Standard output and error that take any text: in any encoding, with any name in it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from tfdet import progress
from tfdet.printable import printable

# What tfdet writes beyond ASCII, for terminals that have no such letters.
_PLAIN = str.maketrans({"²": "^2", "█": "#", "·": ".", "±": "+-", "–": "-", "…": "...", "≥": ">="})


class AnyText:
    """A text stream that never refuses a text.

    What its encoding lacks is written plainly or as a number, and so are control characters, which
    could otherwise come from the name of a class or of a file and steer the terminal. Everything
    else is the stream's own.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `text`; a progress line alone may clear the line it stands in."""
        if text != progress.CLEAR_LINE:
            text = printable(text, keep="\n\t")
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            plain = text.translate(_PLAIN)
            text = plain.encode(encoding, "backslashreplace").decode(encoding)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def any_text() -> Iterator[None]:
    """Within the block `sys.stdout` and `sys.stderr` take any text."""
    with contextlib.ExitStack() as stack:
        for stream, redirect in (
            (sys.stdout, contextlib.redirect_stdout),
            (sys.stderr, contextlib.redirect_stderr),
        ):
            if stream is not None:  # closed by whoever started the process
                stack.enter_context(redirect(AnyText(stream)))
        yield
