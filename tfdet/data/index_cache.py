"""Opened data sets, kept in the user's cache folder so that they are not read again.

Only there, never beside the data: a data set may come from somebody else, and what is kept is
believed.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from tfdet import cache_folder, files
from tfdet.data import storage
from tfdet.data.dataset import DetectionDataset
from tfdet.data.outlines import Outlines
from tfdet.data.problems import Problems
from tfdet.errors import UserError

_FORM = 2  # of the files; others are not read
_LEAST_BYTES = 1 << 24  # of the sources; smaller ones are read in no time
_RECENT_SECONDS = 2.0  # a file may change again without another time
_COLUMNS = ("image_ids", "names", "files", "sizes", "box_offsets", "boxes", "labels", "is_crowd")
_COLUMNS += ("areas", "spans", "difficulty")
_OUTLINES = ("points", "ring_offsets", "object_offsets")
# What NumPy and zipfile raise for damaged files.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, NotImplementedError)
_DAMAGE += (struct.error, zlib.error, zipfile.BadZipFile, MemoryError)


def opened(
    key: Sequence[str],
    sources: Sequence[str],
    read: Callable[[], tuple[DetectionDataset, bool]],
    is_true: Callable[[DetectionDataset], bool] = lambda dataset: True,
) -> DetectionDataset:
    """A data set, from its index where there is one.

    Args:
        key: what else than the sources decides what the data set is.
        sources: files that it is read from; the index holds for their sizes and times of change.
        read: gives the data set from its sources, and whether it follows from them alone; one that
            does not has no index.
        is_true: whether what an index says can be had, such as files of images.
    """
    stamps = _stamps(sources)
    folder = _folder()
    if folder is None or stamps is None or sum(size for _, size, _ in stamps) < _LEAST_BYTES:
        return read()[0]
    facts = {"form": _FORM, "key": list(key), "sources": stamps}
    path = folder / f"{_digest(facts['key'] + [source for source, _, _ in stamps])}.npz"
    dataset = _load(path, facts)
    if dataset is not None and is_true(dataset):
        return dataset
    dataset, may_be_kept = read()
    is_old = time.time_ns() - max(changed for _, _, changed in stamps) > _RECENT_SECONDS * 1e9
    if may_be_kept and is_old and _stamps(sources) == stamps:
        _save(path, dataset, facts)
    return dataset


def _folder() -> pathlib.Path | None:
    """Where indexes are kept; None where there is no place."""
    try:
        return cache_folder.path() / "indexes"
    except UserError:
        return None


def _stamps(sources: Sequence[str]) -> list[list] | None:
    """[path, bytes, time of change] of each; None where one cannot be found."""
    try:
        return [[storage.absolute(source), *storage.stamp(source)] for source in sources]
    except OSError:
        return None


def _digest(words: Sequence[str]) -> str:
    text = json.dumps(words)  # in ASCII, whatever the names of files are
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _load(path: pathlib.Path, facts: dict) -> DetectionDataset | None:
    """The data set of an index; None where there is none of these facts, or it is damaged."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        is_own = not hasattr(os, "geteuid") or about.st_uid == os.geteuid()
        if not is_own or not stat.S_ISREG(about.st_mode):
            return None
        try:
            with np.load(file, allow_pickle=False) as arrays:  # compares checksums
                content = json.loads(arrays["content"].tobytes())
                return _dataset(content, arrays) if content["facts"] == facts else None
        except _DAMAGE:
            logging.warning("the index %s is damaged; it is written again", path)
            return None


def _dataset(content: dict, arrays) -> DetectionDataset:
    outlines = None
    if content["masks"] is not None:
        masks = {int(t): mask for t, mask in content["masks"].items()}
        outlines = Outlines(*(arrays[name] for name in _OUTLINES), masks)
    problems = Problems()
    problems.counts, problems.examples = content["counts"], content["examples"]
    problems.details = content["details"]
    return DetectionDataset(
        name=content["name"],
        class_names=tuple(content["class_names"]),
        class_ids=tuple(content["class_ids"]),
        outlines=outlines,
        problems=problems,
        **{name: arrays[name] for name in _COLUMNS if name in arrays},
    )


def _save(path: pathlib.Path, dataset: DetectionDataset, facts: dict) -> None:
    """Writes an index; what cannot be written is done without."""
    columns = {name: getattr(dataset, name) for name in _COLUMNS}
    arrays = {name: column for name, column in columns.items() if column is not None}
    outlines = dataset.outlines
    if outlines is not None:
        arrays |= {name: getattr(outlines, name) for name in _OUTLINES}
    content = {
        "facts": facts,
        "name": dataset.name,
        "class_names": dataset.class_names,
        "class_ids": dataset.class_ids,
        "counts": dataset.problems.counts,
        "examples": dataset.problems.examples,
        "details": dataset.problems.details,
        "masks": None if outlines is None else outlines.masks,
    }
    arrays["content"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
    with contextlib.suppress(OSError, files.NotWritten):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.writing(path) as file:
            np.savez(file, **arrays)
