"""Zip archives as weights files use them: looked at before anything of them is read."""

import os
import struct
import zipfile
from typing import BinaryIO

from tfdet.errors import UserError, first_line

_MOST_DIRECTORY_BYTES = 8 << 20  # of names; Python takes some twenty times as much for them
_TAIL_BYTES = 22 + 65535  # the end of an archive with its longest comment
_END, _LARGE_END_LOCATOR, _LARGE_END = b"PK\5\6", b"PK\6\7", b"PK\6\6"


def open_zip(path: str | os.PathLike[str], largest_ratio: float = 1.0) -> zipfile.ZipFile:
    """An archive whose members fit into the file and stay within the archive.

    Args:
        path: of the archive, which stays open until nothing needs it any more.
        largest_ratio: of all members, unpacked, to the file; 1 refuses compressed ones.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        directory = _directory_bytes(file, size)
    if directory > min(_MOST_DIRECTORY_BYTES, size):
        raise UserError("its list of members is too long for a file of weights")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, EOFError) as error:
        raise UserError(f"it is no whole zip archive ({error})") from None
    total = 0
    names = set()
    for member in archive.infolist():
        _check_name(member.filename)
        if member.filename in names:
            raise UserError(f"it has two members named {_short(member.filename)}")
        names.add(member.filename)
        if member.flag_bits & 1:
            raise UserError(f"{_short(member.filename)} in it is encrypted")
        if largest_ratio == 1 and member.compress_type != zipfile.ZIP_STORED:
            raise UserError(
                f"{_short(member.filename)} in it is compressed, which such files never are"
            )
        total += member.file_size
    if total > largest_ratio * size:
        raise UserError(
            f"its members claim {total} bytes, more than a file of {size} bytes can hold"
        )
    return archive


def read_member(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytes:
    """The content of a member, checked by its checksum.

    Args:
        archive: as `open_zip` gives it.
        name: of the member.
        size: bytes that it must have; None for any.
    """
    try:
        found = archive.getinfo(name)
    except KeyError:
        raise UserError(f"{_short(name)} is missing in it") from None
    if size is not None and found.file_size != size:
        raise UserError(
            f"{_short(name)} in it has {found.file_size} bytes where {size} are expected"
        )
    try:
        content = archive.read(found)
    except Exception as error:  # of each decompressor its own
        if isinstance(error, MemoryError):
            raise
        raise UserError(f"{_short(name)} in it cannot be read ({first_line(error)})") from None
    if len(content) != found.file_size:
        raise UserError(f"{_short(name)} in it ends too early")
    return content


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """Bytes of the list of members, as the end of the archive says."""
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < 22:
        raise UserError("it is cut: the end of a zip archive is missing")
    (found,) = struct.unpack_from("<I", tail, place + 12)
    locator = tail[place - 20 : place] if place >= 20 else b""
    if locator.startswith(_LARGE_END_LOCATOR):
        (start,) = struct.unpack_from("<Q", locator, 8)
        file.seek(min(start, size))
        end = file.read(56)
        if len(end) == 56 and end.startswith(_LARGE_END):
            (large,) = struct.unpack_from("<Q", end, 40)
            found = large if found == 0xFFFFFFFF else max(found, large)
    return found


def _check_name(name: str) -> None:
    """Refuses names that lead out of a folder, though nothing is ever unpacked."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name:
        raise UserError(f"its member {_short(name)} leads out of the archive")


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:60]}...")
