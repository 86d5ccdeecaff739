"""Paths that come out of annotation files."""

import errno
import os
import stat
from typing import BinaryIO

from tfdet import documents, limits
from tfdet.errors import UserError


def join_inside(directory: str, name: str) -> str | None:
    """directory/name, or None where name is absolute or leads out of the directory."""
    parts = name.replace("\\", "/").split("/")
    if not name or os.path.isabs(name) or ".." in parts or ":" in parts[0]:
        return None
    return os.path.join(directory, *parts)


def require_file(path: str, what: str) -> str:
    """The path, if it is a file."""
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise UserError(f"{what}: {path!r} is a folder, not a file{_here(path)}")
        raise UserError(f"{what}: there is no file {path!r}{_here(path)}")
    return path


def require_directory(path: str, what: str) -> str:
    """The path, if it is a directory."""
    if not os.path.isdir(path):
        raise UserError(f"{what}: there is no directory {path!r}{_here(path)}")
    return path


def existing(*options: str) -> str | None:
    """The first of some paths that is there, also where it was written on Windows; or None."""
    paths = [path for option in options for path in (option, option.replace("\\", "/"))]
    return next((os.path.normpath(path) for path in paths if os.path.exists(path)), None)


def read_text(path: str, what: str) -> str:
    """The contents of a text file."""
    return documents.read_text(require_file(path, what), what)


def open_small(path: str) -> BinaryIO:
    """Opens an annotation of one image; an `OSError` where it is no file, or far too large."""
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "not a file", path)
    if facts.st_size > limits.MAX_TEXT_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return open(path, "rb")


def _here(path: str) -> str:
    return "" if os.path.isabs(path) else f" in {os.getcwd()}"
