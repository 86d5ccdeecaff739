"""Reader of Pascal VOC directories."""

import os
import re
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from tfdet.data import decode
from tfdet.data.builder import DatasetBuilder
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import join_inside, open_small, read_text, require_directory
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import clean_name

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")
_CLASS_FILES = ("classes.txt", "labels.txt")
_LAYOUT = "Annotations/*.xml, ImageSets/Main/SPLIT.txt with their names, and JPEGImages"


def open_voc(directory: str, split: str) -> DetectionDataset:
    """A split of a data set in Pascal VOC's form.

    The images are those listed in `ImageSets/Main/<split>.txt`. The classes are the lines of
    `classes.txt` (or `labels.txt`) in the directory where there is one; otherwise all names that
    occur in any annotation of the directory, not only of the split, in alphabetical order.
    Coordinates are used as they stand, without subtracting the 1 that VOC's own files start from:
    most other sets in this form start from 0. Objects marked difficult are objects like others.

    Args:
        directory: holds `Annotations`, `ImageSets/Main` and `JPEGImages`.
        split: a name such as "train" or "trainval".
    """
    require_directory(directory, "VOC data set")
    annotations = os.path.join(directory, "Annotations")
    if not os.path.isdir(annotations):
        raise UserError(
            f"VOC data set: there is no directory {annotations!r}; expected in {directory}: "
            f"{_LAYOUT}"
        )
    stems = _split_stems(directory, split)
    problems = Problems()
    class_names = _class_names(directory, annotations)
    label_of = {name: label for label, name in enumerate(class_names)}
    builder = DatasetBuilder(f"voc:{directory}:{split}", class_names, problems=problems)
    for stem in stems:
        path = join_inside(annotations, stem + ".xml")
        if path is None:
            problems.add("unsafe_path", stem)
            continue
        root = _read_or_report(path, problems)
        if root is None:
            continue
        file = _image_file(directory, stem, root, problems)
        if file is None:
            continue
        objects = root.findall("object")
        builder.add_image(
            image_id=stem,
            file_name=stem + os.path.splitext(file)[1],
            file=file,
            size=_size(root),
            boxes=[_box(item) for item in objects],
            labels=[label_of.get(_class_name(item), -1) for item in objects],
        )
    return builder.build()


def parse_xml(content: bytes) -> ElementTree.Element:
    """The root of an XML document without a document type, hence without entities to expand."""
    tree = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.Parse(content, True)
    return tree.close()


def _refuse_doctype(*_):
    raise ValueError("a document type (with entities) is not expected in an annotation")


def _read_or_report(path: str, problems: Problems) -> ElementTree.Element | None:
    try:
        with open_small(path) as file:
            return parse_xml(file.read())
    except OSError as error:
        problems.add("unreadable_annotation", f"{path}: {error.strerror}")
        return None
    except (ValueError, LookupError, expat.ExpatError) as error:  # of an unknown encoding too
        problems.add("unreadable_annotation", f"{path}: {error}")
        return None


def _split_stems(directory: str, split: str) -> list[str]:
    sets = os.path.join(directory, "ImageSets", "Main")
    path = os.path.join(sets, split + ".txt")
    if not os.path.isfile(path):
        found = (
            sorted(f[:-4] for f in os.listdir(sets) if f.endswith(".txt"))
            if os.path.isdir(sets)
            else []
        )
        raise UserError(
            f"no split {split!r}: expected {path}; there is {', '.join(found) or 'none'}; "
            f"{directory} must have {_LAYOUT}"
        )
    lines = read_text(path, "VOC split").splitlines()
    stems = [_stem(line.strip(), directory) for line in lines if line.strip()]
    if not stems:
        raise UserError(f"{path} lists no image")
    return stems


def _stem(line: str, directory: str) -> str:
    """The name in a line of a split.

    Class-wise lists have a second column: 1, 0 or -1. Some tools list files: JPEGImages/a.jpg.
    """
    found = re.fullmatch(r"(.*\S)\s+(-1|0|1)", line)
    name = found[1] if found else line
    file = name.replace("\\", "/").rpartition("/")[2]
    for stem in (line, name, os.path.splitext(file)[0]):
        if os.path.isfile(os.path.join(directory, "Annotations", stem + ".xml")):
            return stem
    return name


def _class_names(directory: str, annotations: str) -> list[str]:
    for name in _CLASS_FILES:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            lines = [line.strip() for line in read_text(path, "VOC classes").splitlines()]
            if not any(lines):
                raise UserError(f"{path} names no class; give one per line or remove the file")
            return [clean_name(line) for line in lines if line]
    names: set[str] = set()
    ignored = Problems()  # files of other splits are not reported here
    for entry in os.scandir(annotations):
        if entry.name.endswith(".xml"):
            root = _read_or_report(entry.path, ignored)
            if root is not None:
                names.update(_class_name(item) for item in root.findall("object"))
    names.discard("")
    if not names:
        raise UserError(f"no object has a class name in {annotations}")
    return sorted(names)


def _image_file(directory: str, stem: str, root, problems: Problems) -> str | None:
    """The image of an annotation: the one of its own name, else the one that it names."""
    images = os.path.join(directory, "JPEGImages")
    for extension in _EXTENSIONS:
        file = os.path.join(images, stem + extension)
        if os.path.isfile(file):
            return file
    name = _text(root, "filename")
    if not name:
        problems.add("missing_image", os.path.join(images, stem + ".jpg"))
        return None
    file = join_inside(images, name)
    if file is None:
        problems.add("unsafe_path", f"{stem}.xml ({name})")
    return file


def _size(root) -> tuple[int, int] | None:
    height, width = (_number(_text(root, f"size/{side}")) for side in ("height", "width"))
    return decode.as_size(height, width)


def _box(item) -> list[float]:
    sides = ("xmin", "ymin", "xmax", "ymax")
    return [_number(_text(item, f"bndbox/{side}")) for side in sides]


def _class_name(item) -> str:
    return clean_name(_text(item, "name"))


def _text(element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float:
    is_number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)
    return float(text) if is_number else np.nan
