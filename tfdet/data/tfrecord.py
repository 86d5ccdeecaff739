"""Reader of TFRecord files with the feature keys of EfficientDet and the TF model garden."""

import dataclasses
import glob
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfdet import documents
from tfdet.data import index_cache, record_files, storage
from tfdet.data.builder import DatasetBuilder
from tfdet.data.class_labels import ClassLabels
from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, as_size, displayed_size
from tfdet.data.objects import ObjectCollector, Objects
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import printable, shown

LABELS_SUFFIX = "-labels.json"

_NO_RECORDS = (".json", ".pbtxt", ".tmp")
_SHOWN_KEYS = 5
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def open_tfrecord(pattern: str, labels: str | None = None) -> DetectionDataset:
    """A data set in TFRecord files, on disk or wherever else TensorFlow reads from.

    The files are read once, to learn where each image lies; afterwards images are read from there
    in any order. What was learned is kept, see `index_cache`. Class names come from the labels
    file, from the `<prefix>-labels.json` that `tfdet-data convert` writes, or from the records'
    class texts.

    Args:
        pattern: glob pattern of the files.
        labels: a JSON file {name: id}, {id: name} or {"classes": [{"id", "name"}]}, or a
            label map in protocol buffer text.
    """
    try:
        files = _files(pattern)
        labels = labels or _sidecar_labels(files)
        return index_cache.opened(
            ["tfrecord", pattern, str(labels), os.getcwd()],
            [*files, *([labels] if labels else [])],
            lambda: (_read(pattern, files, labels), True),
        )
    except OSError as error:
        raise UserError(f"{error.filename or pattern} cannot be read: {error.strerror}") from error


def _read(pattern: str, files: Sequence[str], labels: str | None) -> DetectionDataset:
    problems = Problems()
    name_of = read_labels(labels) if labels else None
    if glob.has_magic(pattern):  # who names one file of a series means that one
        record_files.report_missing(files, problems)
    records = _Records(pattern, problems)
    for file in files:
        records.read(file, with_names=name_of is None)
    if not records.images:
        details = "; ".join(problems.lines()) or "the files are empty"
        raise UserError(f"{pattern!r} holds no readable record: {details}")
    if name_of is None:
        name_of = records.names()
    ids = sorted(name_of)
    names = [name_of[class_id] for class_id in ids]
    label_of = ClassLabels(ids)
    objects, unknown = records.objects(label_of), label_of.unknown
    builder = DatasetBuilder(f"tfrecord:{pattern}", names, ids, problems, objects, unknown)
    for image in records.images:
        builder.add_image_of_rows(*image)
    return builder.build()


def _files(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        place = os.path.join(pattern, "*.tfrecord")
        raise UserError(f"{pattern!r} is a folder; give a pattern, such as {place}")
    folder, name = os.path.split(pattern)
    patterns = [pattern]
    if os.path.isdir(folder):  # also where its name reads like a pattern
        patterns.append(os.path.join(glob.escape(folder), name))
    found = {f for p in patterns for f in storage.matching(p) if not f.endswith(_NO_RECORDS)}
    if not found:
        raise UserError(f"no file matches {pattern!r}")
    return sorted(found)


class _Records:
    """What is read of records, in columns: there may be millions of boxes.

    Attributes:
        images: arguments of `DatasetBuilder.add_image_of_rows` for each.
    """

    def __init__(self, pattern: str, problems: Problems):
        self.images: list[tuple] = []
        self._pattern = pattern
        self._problems = problems
        self._objects = ObjectCollector()
        self._classes: dict[int | None, int] = {}  # id -> a number, by the order of coming
        self._names: dict[int, str] = {}
        self._other_names: set[tuple[int, str]] = set()

    def read(self, file: str, with_names: bool) -> None:
        """Takes all records of a file; `with_names` those of classes too."""
        for offset, length, features in _scan(file, self._problems):
            number = len(self.images)
            height, width = features["size"]
            ids = features["class_ids"]
            labels = [self._classes.setdefault(i, len(self._classes)) for i in ids]
            boxes = features["boxes"] * np.tile([width, height], 2)
            rows = self._objects.add(boxes, labels, features["is_crowd"], features["areas"])
            image_id, name = _source_id(features, number), features["filename"] or f"{number:09d}"
            span = (offset, length)
            self.images.append((rows, image_id, name, file, features["size"], np.nan, span))
            if with_names and len(features["class_names"]) == len(ids):
                for i, name in dict.fromkeys(zip(ids, features["class_names"], strict=True)):
                    if i is not None and self._names.setdefault(i, name) != name:
                        self._other_names.add((i, name))

    def names(self) -> dict[int, str]:
        """Class id -> name from the class texts of the records."""
        for i, name in sorted(self._other_names):
            words = f"id {i}: {shown(self._names[i])} and {shown(name)}"
            self._problems.add("second_name", words)
        if not self._names:
            raise UserError(
                f"the records of {self._pattern!r} carry no class names; give a labels file:"
                " tfrecord:PATTERN:LABELS.json"
            )
        return self._names

    def objects(self, label_of: ClassLabels) -> Objects:
        """All objects, with the labels of the class ids."""
        objects = self._objects.objects()
        labels = np.array([label_of[i] for i in self._classes], np.int64)
        return dataclasses.replace(objects, labels=labels[objects.labels])


def read_labels(path: str) -> dict[int, str]:
    """Class id -> name of a label file; see `open_tfrecord` for its forms."""
    text = storage.read_text(path, "labels")
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


def _sidecar_labels(files: list[str]) -> str | None:
    path = shard_prefix(files[0]) + LABELS_SUFFIX
    return path if storage.is_file(path) else None


def _scan(path: str, problems: Problems) -> Iterator[tuple[int, int, dict]]:
    """(offset, length of the image, features) of each record that can be used."""
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
        yield start + record.find(encoded), len(encoded), features


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


def _source_id(features: dict, number: int) -> int | str:
    """The record's id: a number where it is written like one, text otherwise."""
    text = features["source_id"] or features["filename"]
    if not text:
        return number
    return int(text) if re.fullmatch(r"0|[1-9]\d{0,17}", text) else text
