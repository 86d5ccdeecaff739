"""Reader of TFRecord files with the feature keys of EfficientDet and the TF model garden."""

import glob
import json
import os
import re
import struct
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfdet.data.builder import DatasetBuilder
from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, displayed_size, has_pixels
from tfdet.data.paths import read_text
from tfdet.data.problems import Problems
from tfdet.errors import UserError

LABELS_SUFFIX = "-labels.json"

_HEADER = struct.Struct("<Q4x")  # length, its checksum
_FOOTER_BYTES = 4  # checksum of the record
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
    files = sorted(f for f in glob.glob(pattern) if not f.endswith((".json", ".pbtxt", ".tmp")))
    if not files:
        raise UserError(f"no file matches {pattern!r}")
    name_of = read_labels(labels) if labels else _sidecar_labels(files)
    problems = Problems()
    examples = [e for file in files for e in _scan(file, problems)]
    if not examples:
        details = "; ".join(problems.lines()) or "the files are empty"
        raise UserError(f"{pattern!r} holds no readable record: {details}")
    if name_of is None:
        name_of = _names_in_records(examples, pattern)
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
            size=(height, width),
            boxes=features["boxes"] * np.tile([width, height], 2),
            labels=[label_of.get(int(class_id), -1) for class_id in features["class_ids"]],
            is_crowd=features["is_crowd"],
            areas=features["areas"],
            span=(offset, length),
        )
    return builder.build()


def read_labels(path: str) -> dict[int, str]:
    """Class id -> name of a label file; see `open_tfrecord` for its forms."""
    text = read_text(path, "labels")
    if path.endswith(".pbtxt"):
        items = re.findall(r"item\s*\{(.*?)\}", text, re.DOTALL)
        pairs = [
            (re.search(r"\bid:\s*(\d+)", i), re.search(r"name:\s*['\"](.*?)['\"]", i))
            for i in items
        ]
        content = {m[1]: n[1] for m, n in pairs if m and n}
    else:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} is not a JSON file: {error}") from error
    try:
        if isinstance(content, dict) and isinstance(content.get("classes"), list):
            content = {entry["name"]: entry["id"] for entry in content["classes"]}
        # Both directions are in use: {name: id} in EfficientDet's label maps, {id: name} elsewhere.
        if all(isinstance(value, int) for value in content.values()):
            content = {class_id: name for name, class_id in content.items()}
        names = {int(class_id): str(name) for class_id, name in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected class names and whole-number ids") from error
    if not names:
        raise UserError(f"{path} names no class")
    return names


def shard_prefix(file: str) -> str:
    """The part of a shard's path before its number: a/train-00000-of-00008.tfrecord -> a/train."""
    return re.sub(r"(-\d+-of-\d+)?(\.tfrecords?)?$", "", file)


def _sidecar_labels(files: list[str]) -> dict[int, str] | None:
    path = shard_prefix(files[0]) + LABELS_SUFFIX
    return read_labels(path) if os.path.isfile(path) else None


def _scan(path: str, problems: Problems) -> Iterator[tuple[str, int, int, dict]]:
    """(file, offset, length of the image, features) of each record that can be used."""
    for start, record in _records(path, problems):
        try:
            features = _features(tf.train.Example.FromString(record).features.feature)
        except (DecodeError, ValueError):
            problems.add("unreadable_annotation", f"{path} at byte {start}")
            continue
        encoded = features.pop("encoded")
        try:
            if not has_pixels(features["size"]):
                features["size"] = displayed_size(encoded)
        except ImageError as error:
            problems.add(error.kind, f"{path} at byte {start}")
            continue
        yield path, start + record.find(encoded), len(encoded), features


def _records(path: str, problems: Problems) -> Iterator[tuple[int, bytes]]:
    """(offset, contents) of the records of a file."""
    remaining = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise UserError(
                f"{path} is compressed; unpack it with gunzip, images can then be found"
            )
        file.seek(0)
        while remaining >= _HEADER.size:
            (length,) = _HEADER.unpack(file.read(_HEADER.size))
            remaining -= _HEADER.size + length + _FOOTER_BYTES
            if remaining < 0:
                break
            yield file.tell(), file.read(length)
            file.seek(_FOOTER_BYTES, os.SEEK_CUR)
    if remaining:
        problems.add("truncated_record", path)


def _features(feature) -> dict:
    """The fields of one example as Python and NumPy values; boxes are fractions, xyxy.

    Raises:
        ValueError: the lists of an example have different lengths.
    """

    def numbers(key):
        field = feature.get("image/" + key)
        kind = field.WhichOneof("kind") if field is not None else None
        return np.array(getattr(field, kind).value if kind else [])

    def text(key):
        values = feature["image/" + key].bytes_list.value
        return values[0].decode("utf-8", "replace") if values else ""

    def scalar(key):
        values = numbers(key)
        return int(values[0]) if len(values) else -1

    class_ids = numbers("object/class/label").astype(np.int64)
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
        "size": (scalar("height"), scalar("width")),
        "filename": text("filename"),
        "source_id": text("source_id"),
        "class_ids": class_ids,
        "class_names": [name.decode("utf-8", "replace") for name in names],
        "boxes": np.stack(boxes, axis=1),
        "is_crowd": is_crowd if len(is_crowd) == count else None,
        "areas": areas if len(areas) == count else None,
    }


def _names_in_records(examples: list[tuple], pattern: str) -> dict[int, str]:
    """Class id -> name from the class texts of the records."""
    names = {}
    for _, _, _, features in examples:
        if len(features["class_names"]) == len(features["class_ids"]):
            names.update(zip(features["class_ids"].tolist(), features["class_names"], strict=True))
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
