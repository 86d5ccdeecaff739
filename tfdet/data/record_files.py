"""TFRecord files as bytes: where records lie, their checksums, whether a series is whole."""

import collections
import os
import re
import struct
from collections.abc import Iterator, Sequence

import tensorflow as tf

from tfdet.data import storage
from tfdet.data.problems import Problems
from tfdet.errors import UserError

SHARD = re.compile(r"(-(\d{1,9})-of-(\d{1,9}))?(\.tfrecords?)?$")  # the end of a file's name

_HEADER = struct.Struct("<QI")  # length, its checksum
_FOOTER_BYTES = 4  # checksum of the record
_MOST_BYTES = 1 << 31  # a protocol buffer ends there


def records(path: str, problems: Problems) -> Iterator[tuple[int, bytes]]:
    """(offset, contents) of the records of a file, up to the first whose length is damaged."""
    remaining, _ = storage.stamp(path)
    with storage.open_to_read(path) as file:
        if file.read(2) == b"\x1f\x8b":
            raise UserError(
                f"{path} is compressed; unpack it with gunzip, images can then be found"
            )
        file.seek(0)
        while remaining >= _HEADER.size:
            header = file.read(_HEADER.size)
            length, checksum = _HEADER.unpack(header)
            if masked_checksum(header[:8]) != checksum or length > _MOST_BYTES:
                place = file.tell() - _HEADER.size
                problems.add("damaged_record", f"{path} at byte {place}")
                return
            remaining -= _HEADER.size + length + _FOOTER_BYTES
            if remaining < 0:
                break
            yield file.tell(), file.read(length)
            file.seek(_FOOTER_BYTES, os.SEEK_CUR)
    if remaining:
        problems.add("truncated_record", path)


def masked_checksum(data: bytes) -> int:
    """The CRC-32C of some bytes as TFRecord files have it."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def compare_checksums(path: str, problems: Problems) -> None:
    """Reads a whole file; counts the first record in it whose checksum is not that of its bytes.

    TensorFlow compares, which takes a second for a gigabyte or two.
    """
    try:
        tf.data.TFRecordDataset(os.fsencode(path)).reduce(0, lambda count, _: count + 1)
    except tf.errors.DataLossError as error:
        found = re.search(r"corrupted record at (\d+)", error.message)
        if found:  # where it is not, the file ends early, which its reader has counted
            problems.add("record_checksum", f"{path} at byte {found[1]}")


def report_missing(files: Sequence[str], problems: Problems) -> None:
    """Counts the files x-00001-of-00003 that others of their series say there are."""
    series: dict[tuple[str, str, str], set[int]] = collections.defaultdict(set)
    for file in files:
        found = SHARD.search(file)
        if found and found[1]:
            key = file[: found.start()], found[3], found[4] or ""
            series[key].add(int(found[2]))
    for (prefix, total, ending), numbers in series.items():
        count = int(total) - sum(number < int(total) for number in numbers)
        if count > 0:
            first = next(i for i in range(int(total)) if i not in numbers)
            problems.add("missing_shard", f"{prefix}-{first:05d}-of-{total}{ending}", count)


def _table() -> list[int]:
    """What each byte does to a CRC-32C, which has the polynomial of Castagnoli."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()
