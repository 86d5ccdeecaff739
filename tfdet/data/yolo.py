"""Reader of YOLO's text form: a data.yaml, a directory of images, one text file per image."""

import dataclasses
import os
import re
from collections.abc import Iterable

from tfdet import documents, limits
from tfdet.data import image_names, layouts, splits
from tfdet.data.builder import DatasetBuilder
from tfdet.data.class_labels import ClassLabels
from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, displayed_size
from tfdet.data.paths import existing, open_small, read_text, require_file
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import shown

_MOST = 2.0  # of a coordinate, a fraction of the image: beyond it stand pixels
_NOTHING = ("", "~", "null", "Null", "NULL")  # as YAML writes it

_CLASS_FILES = {"classes.txt", "class_names.txt", "labels.txt", "names.txt"}
_CLASS_FILES |= {"predefined_classes.txt", "obj.names", "classes.names", "_darknet.labels"}
# Text files that are no labels, even beside a picture of that name.
_NO_LABELS = _CLASS_FILES | {"readme.txt", "license.txt", "readme.roboflow.txt"}
_NO_LABELS |= {"readme.dataset.txt", "train.txt", "val.txt", "valid.txt", "test.txt"}


def open_yolo(path: str, split: str | None = None) -> DetectionDataset:
    """A data set in YOLO's form, or a split of it.

    `data.yaml` has `names` (a list, or a dict index -> name), optionally `path`, and for the split
    a directory of images, a text file that lists them, or a list of these. The labels of
    `.../images/x.jpg` are the lines of `.../labels/x.txt`: class, then centre x, centre y, width
    and height as fractions of the image, or three or more points of an outline. An image without
    a text file is background.

    In a directory without such a file each image is paired with the text file of its name, see
    `layouts.find`; splits are folders of that name or made, see `splits.made`. The classes are the
    lines of `classes.txt` or the like; without one they are called by their index.

    Args:
        path: of the YAML file, whose relative paths start from its directory, or a directory.
        split: "train", "val", ... as in the file; None for all images.
    """
    if os.path.isdir(path):
        data_yaml = _yaml_in(path)
        if data_yaml is None or not _is_there(data_yaml, split):
            return _open_found(path, split, data_yaml)
        assumed = f"{data_yaml} describes it"
        return dataclasses.replace(open_yolo(data_yaml, split), assumed=(assumed,))
    content = _read_yaml(path)
    names = _class_names(content, path)
    problems = Problems()
    images = _image_files(content, path, split, problems)
    if str(content.get("nc", len(names))).strip() != str(len(names)):
        problems.add("class_count", f"{path}: nc {shown(content['nc'])}, {len(names)} names")
    name = f"yolo:{path}" + (f":{split}" if split else "")
    return _read(name, [(*image, _label_file(image[1])) for image in images], names, problems)


def _open_found(directory: str, split: str | None, data_yaml: str | None) -> DetectionDataset:
    """As `open_yolo` for a directory, of what lies in it; a YAML file gives the names alone."""
    layout = layouts.find(directory, (".txt",), _NO_LABELS)
    if not any(pair.annotation for pair in layout.pairs):
        raise UserError(
            f"YOLO data set {directory}: looked for a data.yaml whose paths exist, and for text "
            "files named like images, beside them or in another folder; found "
            f"{layouts.found_in(layout)}"
        )
    pairs, to_make = layout.of_split(split)
    whole = split is None or to_make is not None
    problems = Problems()
    names, naming = _found_names(layout, data_yaml)
    images = [(p.name, p.image, p.annotation or _label_file(p.image)) for p in pairs]
    for path in layout.orphans if whole else ():
        problems.add("missing_image", f"of {path}")
    name = f"yolo:{directory}" + ("" if whole else f":{split}")
    assumed = (layout.sentence(), naming)
    dataset = dataclasses.replace(_read(name, images, names, problems), assumed=assumed)
    return splits.made(dataset, to_make) if to_make else dataset


def _found_names(layout: layouts.Layout, data_yaml: str | None) -> tuple[dict[int, str], str]:
    """Class index -> name, and a sentence about where they were found."""
    if data_yaml is not None:
        return _class_names(_read_yaml(data_yaml), data_yaml), f"class names from {data_yaml}"
    lists = [file for file in layout.files if file.rpartition("/")[2].lower() in _CLASS_FILES]
    if lists:
        path = os.path.join(layout.directory, min(lists, key=lambda file: (file.count("/"), file)))
        lines = [line.strip() for line in read_text(path, "YOLO classes").splitlines()]
        names = dict(enumerate(line for line in lines if line))
        if not names:
            raise UserError(f"{path} names no class; give one per line or remove the file")
        return names, f"class names from {path}"
    unread = Problems()
    indices = {
        int(row[0])
        for pair in layout.pairs
        if pair.annotation
        for row in _read_labels(pair.annotation, unread) or ()
    }
    if not indices:
        raise UserError(
            f"YOLO data set {layout.directory}: no text file has a line `class x y width height` "
            "with fractions of the image"
        )
    sentence = "no classes.txt, so that the classes are called by their index"
    return {index: str(index) for index in sorted(indices)}, sentence


def _yaml_in(directory: str) -> str | None:
    """The YAML file in a directory that names classes; None without one, or with several."""
    paths = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    paths = [path for path in paths if path.endswith((".yaml", ".yml")) and os.path.isfile(path)]
    first = [path for path in paths if os.path.basename(path) in ("data.yaml", "data.yml")]
    if first:
        return first[0]
    found = []
    for path in paths:
        try:
            found += [path] if "names" in _read_yaml(path) else []
        except UserError:  # something else than a data set
            continue
    return found[0] if len(found) == 1 else None


def _is_there(data_yaml: str, split: str | None) -> bool:
    """Whether a YAML file has paths for a split that exist; those of another machine do not."""
    content = _read_yaml(data_yaml)
    wanted = _splits_in(content) if split is None else [split]
    try:
        return bool(wanted) and all(_places(content, data_yaml, one) for one in wanted)
    except UserError:
        return False


def _read(
    name: str, images: Iterable[tuple[str, str, str]], names: dict[int, str], problems: Problems
) -> DetectionDataset:
    """A data set of images, given as name, path, and path of the labels."""
    label_of = ClassLabels(names)
    unknown = label_of.unknown
    builder = DatasetBuilder(name, names.values(), list(names), problems, unknown=unknown)
    for image, file, label_file in images:
        if not os.path.isfile(file):
            problems.add("missing_image", file)
            continue
        try:
            height, width = displayed_size(file)
        except ImageError as error:
            problems.add(error.kind, file)
            continue
        objects = _read_labels(label_file, problems)
        if objects is None:
            continue
        scaled = [[v * (width, height)[k % 2] for k, v in enumerate(o[1:])] for o in objects]
        is_outline = [len(values) > 4 for values in scaled]
        builder.add_image(
            image_id=os.path.splitext(image)[0],
            file_name=image,
            file=file,
            size=(height, width),
            boxes=[_box(values) for values in scaled],
            labels=[label_of[int(o[0])] for o in objects],
            segmentations=[
                [v] if flag else None for v, flag in zip(scaled, is_outline, strict=True)
            ]
            if any(is_outline)
            else None,
        )
    return builder.build()


def _read_yaml(path: str) -> dict:
    what = "YOLO data set"
    text = documents.read_text(require_file(path, what), what, limits.MAX_YAML_BYTES)
    # As text: a class that is called no, 1.0 or null has that name.
    content = documents.parse_yaml(text, f"{what} {path}", as_text=True)
    if not isinstance(content, dict):
        raise UserError(f"{path} has no keys; expected `names` and the paths of the splits")
    return content


def _class_names(content: dict, path: str) -> dict[int, str]:
    """Class index -> name, by index."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path}: expected `names` to be a list or a dict of class names")
    if not all(re.fullmatch(r"[0-9]{1,9}", str(index)) for index in names):
        raise UserError(f"{path}: expected `names` to have whole numbers as keys")
    if not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{path}: expected `names` to be names, one for each class")
    numbered = {int(index): name for index, name in names.items()}
    return dict(sorted(numbered.items()))


def _image_files(
    content: dict, data_yaml: str, split: str | None, problems: Problems
) -> list[tuple[str, str]]:
    """(name inside the data set, path) of each image of a split, or of all: train/a.jpg then."""
    if split is None:
        wanted = _splits_in(content)
        if not wanted:
            raise UserError(f"{data_yaml} has no split; expected train or val with their images")
        found = {}  # two splits may be the same files
        for one in wanted:
            for name, path in _image_files(content, data_yaml, one, problems):
                found.setdefault(path, f"{one}/{name}")
        return [(name, path) for path, name in found.items()]
    found = []
    for path, root in _places(content, data_yaml, split):
        found.extend(_listed(path, root) if os.path.isfile(path) else _walked(path, problems))
    if not found:
        details = "".join(f"; {line}" for line in problems.lines())
        raise UserError(
            f"{data_yaml}: {split}: there is no image in {shown(content[split])}{details}"
        )
    return found


def _splits_in(content: dict) -> list[str]:
    """The splits of a YAML file that have paths."""
    return [
        key
        for key in map(str, content)
        if layouts.split_of(key) and content[key] and content[key] not in _NOTHING
    ]


def _places(content: dict, data_yaml: str, split: str) -> list[tuple[str, str]]:
    """The paths of a split, all of which exist, and the directory that each starts from."""
    places = content.get(split)
    if not places or places in _NOTHING:
        known = sorted(set(map(str, content)) - {"names", "nc", "path"})
        raise UserError(f"{data_yaml} has no split {split!r}; it has {', '.join(known)}")
    own = str(content.get("path") or "")
    root = os.path.dirname(os.path.abspath(data_yaml))
    root = root if own in _NOTHING else os.path.join(root, own)
    found = []
    for place in places if isinstance(places, list) else [places]:
        if not isinstance(place, str):
            raise UserError(f"{data_yaml}: {split}: expected a path, got {shown(place)}")
        # Some exporters write ../train/images for a directory that lies beside the data.yaml.
        options = (place, place.removeprefix("../"), place.removeprefix("..\\"))
        path = existing(*(os.path.join(root, option) for option in options))
        if path is None:
            raise UserError(f"{data_yaml}: {split}: there is no {os.path.join(root, place)!r}")
        found.append((path, root))
    return found


def _walked(directory: str, problems: Problems) -> list[tuple[str, str]]:
    files = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if image_names.is_image(name):
                files.append((os.path.relpath(path, directory).replace(os.sep, "/"), path))
            elif image_names.is_other_picture(name):
                problems.add("other_format", path)
    return sorted(files)


def _listed(list_file: str, root: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in read_text(list_file, "YOLO images").splitlines()]
    lines = [line for line in lines if line]
    paths = [os.path.join(root, line) for line in lines]
    paths = [existing(path) or os.path.normpath(path) for path in paths]
    return [(path.replace(os.sep, "/").rpartition("/images/")[2], path) for path in paths]


def _label_file(image_file: str) -> str:
    before, found, after = image_file.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if found else image_file
    return os.path.splitext(path)[0] + ".txt"


def _read_labels(path: str, problems: Problems) -> list[list[float]] | None:
    """Lines of a label file as numbers; those that cannot be read are counted and left out.

    None where something of that name is there but cannot be read.
    """
    if not os.path.lexists(path):
        problems.add("missing_label", path)
        return []
    try:
        with open_small(path) as file:
            text = file.read().decode("utf-8-sig", "replace")
    except OSError as error:
        problems.add("unreadable_annotation", f"{path}: {error.strerror}")
        return None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        is_row = len(row) == 5 or (len(row) >= 7 and len(row) % 2 == 1)
        if is_row and row[0].is_integer():
            if max(map(abs, row[1:])) > _MOST:
                problems.add("not_fractions", f"{path}:{number}")
            else:
                rows.append(row)
        elif line.strip():
            problems.add("unreadable_line", f"{path}:{number}")
    return rows


def _box(values: list[float]) -> list[float]:
    """xyxy of a centre and a size, or of an outline."""
    if len(values) > 4:
        return [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
    x, y, width, height = values
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
