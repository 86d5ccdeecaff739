"""Files that are whole or not there, and folders that one process at a time writes to."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from tfdet.errors import UserError


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


@contextlib.contextmanager
def holding(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from training in `folder` within the block.

    The system lets go of the lock when the process ends, however it ends, so that a killed run
    leaves nothing behind that would stop the next.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training in {folder}; wait for it, or choose another folder"
            ) from None
        yield


def _flush(path: pathlib.Path) -> None:
    # A rename may reach the disk before the data does, so both file and folder are synced.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
