"""Looks at every image and box of a data set and reports what is wrong with it."""

import concurrent.futures
import os
from collections.abc import Callable, Sequence

import numpy as np

from tfdet.data import decoder_messages, record_files
from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, decode_image, header, turns_upright
from tfdet.data.problems import with_details
from tfdet.data.sources import read_source
from tfdet.printable import counted

_CHUNK = 64  # images
_LOST = {"truncated_image", "unreadable_image", "oversized_image"}
_LOST |= {"animated_image", "palette_image"}


def check(spec: str, progress: Callable[[int, int], None] = lambda done, total: None) -> dict:
    """Opens a data set, decodes all its images, and reports what readers and training would meet.

    Args:
        spec: as for `sources.open_dataset`.
        progress: called with (images done, images in all).

    Returns:
        A JSON-ready dict: `data`, `assumed` (sentences), `images`, `boxes`, `crowds`, `classes`
        (name -> boxes), `problems` (kind -> count, found, action, is_damage, details, examples) and
        `damaged`, the number of problems by which something is lost.
    """
    dataset = read_source(spec)
    if dataset.spans is not None:  # into record files
        for file in np.unique(dataset.files):
            record_files.compare_checksums(str(file), dataset.problems)
    progress(0, len(dataset))  # speeds are measured from here
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(dataset), _CHUNK):
            positions = range(first, min(first + _CHUNK, len(dataset)))
            found = _problems_of(dataset, positions, pool)
            for i, kinds in zip(positions, found, strict=True):
                for kind in kinds:
                    dataset.problems.add(kind, str(dataset.names[i]))
            progress(positions.stop, len(dataset))
    per_class = np.bincount(dataset.labels, minlength=dataset.num_classes)
    return {
        "data": spec,
        "assumed": list(dataset.assumed),
        "images": len(dataset),
        "boxes": len(dataset.boxes),
        "crowds": int(dataset.is_crowd.sum()),
        "classes": dict(zip(dataset.class_names, per_class.tolist(), strict=True)),
        "problems": dataset.problems.as_dict(),
        "damaged": dataset.problems.num_damaged,
    }


def _problems_of(
    dataset: DetectionDataset, positions: Sequence[int], pool: concurrent.futures.Executor
) -> list[list[str]]:
    """Kinds of the problems of each of these images.

    Decoders say what they pass over, but not of which image: those of a chunk in which one spoke
    are decoded again, one by one.
    """
    with decoder_messages.caught() as lines:
        found = list(pool.map(lambda i: _image_problems(dataset, i), positions))
    for i, kinds in zip(positions, found, strict=True):
        if lines and not _LOST.intersection(kinds):
            with decoder_messages.caught() as own:
                _image_problems(dataset, i)
            kinds += ["odd_image"] if own else []
    return found


def _image_problems(dataset: DetectionDataset, i: int) -> list[str]:
    """Kinds of the problems that image i shows when it is read as training would read it."""
    annotated_size = tuple(int(v) for v in dataset.sizes[i])
    try:
        encoded = dataset.encoded(i)
        stored_size, orientation = header(encoded)
        pixels = decode_image(encoded, annotated_size)
    except ImageError as error:
        return [error.kind]
    except OSError:
        return ["unreadable_image"]
    kinds = []
    if orientation > 1:
        is_turned = turns_upright(stored_size, orientation, annotated_size)
        kinds.append("exif_rotation" if is_turned else "exif_ignored")
    if pixels.shape[:2] != annotated_size:
        kinds.append("size_mismatch")
    return kinds


def report_text(report: dict) -> str:
    """The report of `check` as text for people."""
    classes = report["classes"]
    lines = [
        *(f"assumed: {sentence}" for sentence in report["assumed"]),
        f"{report['data']}: {counted(report['images'], 'image')}, {counted(report['boxes'], 'box')}"
        f" ({counted(report['crowds'], 'crowd')}), {counted(len(classes), 'class')}",
        "boxes per class: " + ", ".join(f"{name} {count}" for name, count in classes.items()),
    ]
    if not report["problems"]:
        return "\n".join([*lines, "nothing is wrong with it"])
    for entry in report["problems"].values():
        has_more = entry["count"] > len(entry["examples"])
        lines += [
            f"{' ' * (7 - len(str(entry['count'])))}{with_details(entry)}: {entry['action']}",
            *(f"            {name}" for name in entry["examples"]),
            *(["            ..."] if has_more else []),
        ]
    lines.append(f"{report['damaged']} of these lose an image, a box or a part of one")
    return "\n".join(lines)
