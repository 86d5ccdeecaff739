"""Reader of TFRecord files with the feature keys of EfficientDet and the TF model garden."""

import glob
import os
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfdet import documents
from tfdet.data import record_files
from tfdet.data.builder import DatasetBuilder
from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, as_size, displayed_size
from tfdet.data.paths import read_text
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import printable, shown

LABELS_SUFFIX = "-labels.json"

_NO_RECORDS = (".json", ".pbtxt", ".tmp")
_SHOWN_KEYS = 5
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def open_tfrecord(pattern: str, labels: str | None = None) -> DetectionDataset:
    """A data set in TFRecord files.

    The files are read once when the set is opened, to learn where each image lies; afterwards
    images are read from there in any order. Class names come from the labels file, from the
    `<prefix>-labels.json` that `tfdet-data convert` writes, or from the records' class texts.

    Args:
        pattern: glob pattern of the files.
        labels: a JSON file {name: id}, {id: name} or {"classes": [{"id", "name"}]}, or a
            label map in protocol buffer text.
    """
    files = _files(pattern)
    name_of = read_labels(labels) if labels else _sidecar_labels(files)
    problems = Problems()
    if glob.has_magic(pattern):  # who names one file of a series means that one
        record_files.report_missing(files, problems)
    examples = [e for file in files for e in _scan(file, problems)]
    if not examples:
        details = "; ".join(problems.lines()) or "the files are empty"
        raise UserError(f"{pattern!r} holds no readable record: {details}")
    if name_of is None:
        name_of = _names_in_records(examples, pattern, problems)
    ids = sorted(name_of)
    label_of = {class_id: label for label, class_id in enumerate(ids)}
    names = [name_of[class_id] for class_id in ids]
    builder = DatasetBuilder(f"tfrecord:{pattern}", names, ids, problems)
    for number, (file, offset, length, features) in enumerate(examples):
        height, width = features["size"]
        builder.add_image(
            image_id=_source_id(features, number),
            file_name=features["filename"] or f"{number:09d}",
            file=file,
            size=features["size"],
            boxes=features["boxes"] * np.tile([width, height], 2),
            labels=[label_of.get(class_id, -1) for class_id in features["class_ids"]],
            is_crowd=features["is_crowd"],
            areas=features["areas"],
            span=(offset, length),
        )
    return builder.build()


def _files(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        place = os.path.join(pattern, "*.tfrecord")
        raise UserError(f"{pattern!r} is a folder; give a pattern, such as {place}")
    folder, name = os.path.split(pattern)
    patterns = [pattern]
    if os.path.isdir(folder):  # also where its name reads like a pattern
        patterns.append(os.path.join(glob.escape(folder), name))
    found = {f for p in patterns for f in glob.glob(p) if not f.endswith(_NO_RECORDS)}
    if not found:
        raise UserError(f"no file matches {pattern!r}")
    return sorted(found)


def read_labels(path: str) -> dict[int, str]:
    """Class id -> name of a label file; see `open_tfrecord` for its forms."""
    text = read_text(path, "labels")
    if path.endswith(".pbtxt"):
        items = [item.rpartition("{")[2] for item in text.split("}")]
        pairs = [
            (re.search(r"\bid:\s*(\d+)", i), re.search(r"name:\s*['\"](.*?)['\"]", i))
            for i in items
        ]
        content = {m[1]: n[1] for m, n in pairs if m and n}
    else:
        content = documents.parse_json(text, path)
    try:
        if isinstance(content, dict) and isinstance(content.get("classes"), list):
            content = {entry["name"]: entry["id"] for entry in content["classes"]}
        # Both directions are in use: {name: id} in EfficientDet's label maps, {id: name} elsewhere.
        if all(isinstance(value, int) for value in content.values()):
            content = {class_id: name for name, class_id in content.items()}
        names = {int(class_id): str(name) for class_id, name in content.items()}
        if not all(isinstance(name, (str, int)) for name in content.values()):
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected class names and whole-number ids") from error
    if not names:
        raise UserError(f"{path} names no class")
    return names


def shard_prefix(file: str) -> str:
    """The part of a shard's path before its number: a/train-00000-of-00008.tfrecord -> a/train."""
    return record_files.SHARD.sub("", file)


def _sidecar_labels(files: list[str]) -> dict[int, str] | None:
    path = shard_prefix(files[0]) + LABELS_SUFFIX
    return read_labels(path) if os.path.isfile(path) else None


def _scan(path: str, problems: Problems) -> Iterator[tuple[str, int, int, dict]]:
    """(file, offset, length of the image, features) of each record that can be used."""
    for start, record in record_files.records(path, problems):
        try:
            features = _features(tf.train.Example.FromString(record).features.feature)
        except (DecodeError, ValueError, TypeError):
            problems.add("unreadable_annotation", f"{path} at byte {start}")
            continue
        encoded = features.pop("encoded")
        if not encoded:
            keys = ", ".join(sorted(features["keys"])[:_SHOWN_KEYS]) or "none"
            problems.add("other_record", f"{path} at byte {start}: its keys are {printable(keys)}")
            continue
        try:
            features["size"] = features["size"] or displayed_size(encoded)
        except ImageError as error:
            problems.add(error.kind, f"{path} at byte {start}")
            continue
        yield path, start + record.find(encoded), len(encoded), features


def _features(feature) -> dict:
    """The fields of one example as Python and NumPy values; boxes are fractions, xyxy.

    Raises:
        ValueError: the lists of an example have different lengths.
    """

    def numbers(key):
        field = feature.get("image/" + key)
        kind = field.WhichOneof("kind") if field is not None else None
        values = getattr(field, kind).value if kind else []
        if kind == "bytes_list" and len(values):
            raise ValueError(f"{key} is text, not numbers")
        return np.array(values, np.int64 if kind == "int64_list" else np.float64)

    def text(key):
        values = feature["image/" + key].bytes_list.value
        # As Python has the names of files that are not UTF-8.
        return values[0].decode("utf-8", "surrogateescape") if values else ""

    def scalar(key):
        values = numbers(key)
        return float(values[0]) if len(values) else np.nan

    keys = list(feature)  # before what is asked for is added
    class_ids = numbers("object/class/label").tolist()
    boxes = [numbers(f"object/bbox/{side}").astype(np.float64) for side in _SIDES]
    is_crowd = numbers("object/is_crowd").astype(bool)
    areas = numbers("object/area").astype(np.float64)
    if len({len(class_ids), *(len(side) for side in boxes)}) > 1:
        raise ValueError("the lists of boxes and classes have different lengths")
    count = len(class_ids)
    names = feature["image/object/class/text"].bytes_list.value
    return {
        # Not through NumPy: its byte strings end at the first zero.
        "encoded": b"".join(feature["image/encoded"].bytes_list.value[:1]),
        "keys": keys,
        "size": as_size(scalar("height"), scalar("width")),
        "filename": text("filename"),
        "source_id": text("source_id"),
        # Those that are no whole numbers are ids of no class.
        "class_ids": [int(i) if float(i).is_integer() else None for i in class_ids],
        "class_names": [name.decode("utf-8", "replace") for name in names],
        "boxes": np.stack(boxes, axis=1),
        "is_crowd": is_crowd if len(is_crowd) == count else None,
        "areas": areas if len(areas) == count else None,
    }


def _names_in_records(examples: list[tuple], pattern: str, problems: Problems) -> dict[int, str]:
    """Class id -> name from the class texts of the records."""
    names: dict[int, str] = {}
    others: set[tuple[int, str]] = set()
    for _, _, _, features in examples:
        if len(features["class_names"]) == len(features["class_ids"]):
            pairs = zip(features["class_ids"], features["class_names"], strict=True)
            others.update((i, name) for i, name in pairs if names.setdefault(i, name) != name)
    names.pop(None, None)
    for i, name in sorted(pair for pair in others if pair[0] is not None):
        problems.add("second_name", f"id {i}: {shown(names[i])} and {shown(name)}")
    if not names:
        raise UserError(
            f"the records of {pattern!r} carry no class names; give a labels file:"
            " tfrecord:PATTERN:LABELS.json"
        )
    return names


def _source_id(features: dict, number: int) -> int | str:
    """The record's id: a number where it is written like one, text otherwise."""
    text = features["source_id"] or features["filename"]
    if not text:
        return number
    return int(text) if re.fullmatch(r"0|[1-9]\d{0,17}", text) else text
