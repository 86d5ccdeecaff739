"""Paths that come out of annotation files."""

import os

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
        raise UserError(f"{what}: there is no file {path!r}")
    return path


def require_directory(path: str, what: str) -> str:
    """The path, if it is a directory."""
    if not os.path.isdir(path):
        raise UserError(f"{what}: there is no directory {path!r}")
    return path


def read_text(path: str, what: str) -> str:
    """The contents of a text file."""
    try:
        with open(require_file(path, what), encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError:
        raise UserError(f"{what}: {path} is not a text file in UTF-8; save it as such") from None
