"""Reader of Pascal VOC directories."""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from tfdet.data import decode, layouts, splits
from tfdet.data.builder import DatasetBuilder
from tfdet.data.class_labels import ClassLabels
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import join_inside, open_small, read_text, require_directory
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import clean_name

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")
_CLASS_FILES = ("classes.txt", "labels.txt")
_LAYOUT = "Annotations/*.xml, ImageSets/Main/SPLIT.txt with their names, and JPEGImages"


def open_voc(directory: str, split: str | None = None) -> DetectionDataset:
    """A data set in Pascal VOC's form, or a split of it.

    Where there are lists of images (`ImageSets/Main/<split>.txt`) and a split is asked for, the
    images are those of the list. Otherwise each image in the directory is paired with the XML file
    of its name, see `layouts.find`, and splits are folders of that name or made, see `splits.made`.

    The classes are the lines of `classes.txt` (or `labels.txt`) in the directory where there is
    one; otherwise all names that occur in any annotation of the directory, not only of the split,
    in alphabetical order. Coordinates are used as they stand, without subtracting the 1 that VOC's
    own files start from: most other sets in this form start from 0. Objects marked difficult are
    objects like others.

    Args:
        directory: holds `Annotations`, `ImageSets/Main` and `JPEGImages`, or images and XML files.
        split: a name such as "train" or "trainval"; None for all images.
    """
    require_directory(directory, "VOC data set")
    if split is None or not _has_lists(directory, split):
        return _open_found(directory, split)
    annotations = os.path.join(directory, "Annotations")
    if not os.path.isdir(annotations):
        raise UserError(
            f"VOC data set: there is no directory {annotations!r}; expected in {directory}: "
            f"{_LAYOUT}"
        )
    stems = _split_stems(directory, split)
    problems = Problems()
    names = _listed_names(directory) or _names_in(_xml_files(annotations), annotations)
    reader = _Reader(f"voc:{directory}:{split}", names, problems)
    for stem in stems:
        path = join_inside(annotations, stem + ".xml")
        if path is None:
            problems.add("unsafe_path", stem)
            continue
        root = _read_or_report(path, problems)
        if root is None:
            continue
        file = _image_file(directory, stem, root, problems)
        if file is not None:
            reader.add(stem, stem + os.path.splitext(file)[1], file, root)
    return reader.builder.build()


def _open_found(directory: str, split: str | None) -> DetectionDataset:
    """As `open_voc` without lists: of what lies in the directory."""
    layout = layouts.find(directory, (".xml",))
    if not any(pair.annotation for pair in layout.pairs):
        raise UserError(
            f"VOC data set {directory}: looked for XML files named like images, beside them or in "
            f"another folder (or {_LAYOUT}); found {layouts.found_in(layout)}"
        )
    pairs, to_make = layout.of_split(split)
    problems = Problems()
    every = [pair.annotation for pair in layout.pairs if pair.annotation]
    names = _listed_names(directory) or _names_in(every, directory)
    whole = split is None or to_make is not None
    reader = _Reader(f"voc:{directory}" + ("" if whole else f":{split}"), names, problems)
    for pair in pairs:
        if pair.annotation is None:
            problems.add("missing_annotation", pair.image)
            continue
        root = _read_or_report(pair.annotation, problems)
        if root is not None:
            reader.add(os.path.splitext(pair.name)[0], pair.name, pair.image, root)
    for path in layout.orphans if whole else ():
        problems.add("missing_image", f"of {path}")
    dataset = dataclasses.replace(reader.builder.build(), assumed=(layout.sentence(),))
    return splits.made(dataset, to_make) if to_make else dataset


class _Reader:
    """A builder, and what it takes of an annotation."""

    def __init__(self, name: str, class_names: list[str], problems: Problems):
        self._label_of = ClassLabels(class_names)
        unknown = self._label_of.unknown
        self.builder = DatasetBuilder(name, class_names, problems=problems, unknown=unknown)

    def add(self, image_id: str, name: str, file: str, root: ElementTree.Element) -> None:
        objects = root.findall("object")
        self.builder.add_image(
            image_id=image_id,
            file_name=name,
            file=file,
            size=_size(root),
            boxes=[_box(item) for item in objects],
            labels=[self._label_of[_class_name(item)] for item in objects],
        )


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


def _has_lists(directory: str, split: str) -> bool:
    """Whether lists say what is in a split; the one of all images that CVAT writes does not."""
    sets = os.path.join(directory, "ImageSets", "Main")
    lists = (
        [name for name in os.listdir(sets) if name.endswith(".txt")] if os.path.isdir(sets) else []
    )
    return f"{split}.txt" in lists or any(name != "default.txt" for name in lists)


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


def _listed_names(directory: str) -> list[str] | None:
    """The class names that a file of the directory lists; None without one."""
    for name in _CLASS_FILES:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            lines = [line.strip() for line in read_text(path, "VOC classes").splitlines()]
            if not any(lines):
                raise UserError(f"{path} names no class; give one per line or remove the file")
            return [clean_name(line) for line in lines if line]
    return None


def _xml_files(annotations: str) -> Iterator[str]:
    return (entry.path for entry in os.scandir(annotations) if entry.name.endswith(".xml"))


def _names_in(paths: Iterable[str], where: str) -> list[str]:
    """The class names that occur in annotations, in alphabetical order."""
    names: set[str] = set()
    ignored = Problems()  # files of other splits are not reported here
    for path in paths:
        root = _read_or_report(path, ignored)
        if root is not None:
            names.update(_class_name(item) for item in root.findall("object"))
    names.discard("")
    if not names:
        raise UserError(f"no object has a class name in {where}")
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
