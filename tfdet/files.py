"""Files that are whole or not there, and folders that one process at a time writes to."""

import contextlib
import errno
import os
import pathlib
import re
import secrets
from collections.abc import Iterator
from typing import BinaryIO

from tfdet.errors import UserError

_TEMPORARY = ".tmp-"
_LOCK = ".lock"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# A link in the place of a file leads out of the folder; the folder may come from somebody else.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class NotWritten(UserError):
    """A file could not be written; the one that was there before is as it was."""


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary file to write to; `path` becomes that file when the block ends well.

    A kill at any moment leaves the old file or the new one. The temporary name cannot be foretold;
    it keeps the endings of `path`, since some writers look at them.
    """
    path = pathlib.Path(path)
    ending = re.search(r"(\.\w{1,12}){0,2}$", path.name, re.ASCII)
    name = f"{_TEMPORARY}{secrets.token_hex(8)}{ending[0] if ending else ''}"
    temporary = path.with_name(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
    try:
        os.close(os.open(temporary, flags, 0o666))
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        # That of another file, or a library's own.
        if error.strerror is None or error.filename not in (None, str(temporary)):
            raise
        raise NotWritten(_sentence(path, error)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | pathlib.Path) -> Iterator[BinaryIO]:
    """As `replacing`, but gives the temporary file open."""
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_RDWR | _NO_LINK | _BINARY)
        with os.fdopen(descriptor, "w+b") as file:
            yield file


def write_bytes(path: str | pathlib.Path, content: bytes | memoryview) -> None:
    """Writes `content` to `path`, all or nothing."""
    with writing(path) as file:
        file.write(content)


def write_text(path: str | pathlib.Path, text: str) -> None:
    """Writes `text` to `path` in UTF-8, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def holding(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from training in `folder` within the block.

    The system lets go of the lock when the process ends, however it ends, so that a killed run
    leaves nothing behind that would stop the next. What a killed one had half written is removed.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
    except OSError as error:
        raise NotWritten(_sentence(folder / _LOCK, error)) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training in {folder}; wait for it, or choose another folder"
            ) from None
        _remove_leftovers(folder)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes temporary files of killed runs, here and in what of the folder is not held alone."""
    below = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    for place in (folder, *(path for path in below if not (path / _LOCK).exists())):
        for path in place.glob(f"{_TEMPORARY}*"):
            if path.is_symlink() or path.is_file():
                path.unlink(missing_ok=True)


def _sentence(path: pathlib.Path, error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return (
            f"{path} could not be written ({error.strerror}); the file that was there is as it "
            "was. Make room, or lift the limit, and run the same command again"
        )
    if error.errno == errno.ELOOP:
        return f"{path} is a link, which is not followed; remove it"
    return f"{path} cannot be written ({error.strerror})"


def _flush(path: pathlib.Path) -> None:
    # A rename may reach the disk before the data does, so both file and folder are synced.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
