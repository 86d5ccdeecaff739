"""Files that are either whole or not there: written beside their place, flushed, then renamed."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path to write to; `path` becomes that file when the block ends well.

    A kill at any moment leaves the old file or the new one. The temporary name keeps the endings of
    `path`, since some writers look at them.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | pathlib.Path, text: str) -> None:
    """Writes `text` to `path`, all or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _flush(path: pathlib.Path) -> None:
    # A rename may reach the disk before the data does, so both file and folder are synced.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
