"""Reader of YOLO's text form: a data.yaml, a directory of images, one text file per image."""

import os
import re

from tfdet import documents, limits
from tfdet.data import image_names
from tfdet.data.builder import DatasetBuilder
from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, displayed_size
from tfdet.data.paths import existing, open_small, read_text, require_file
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import shown

_MOST = 2.0  # of a coordinate, a fraction of the image: beyond it stand pixels
_NOTHING = ("", "~", "null", "Null", "NULL")  # as YAML writes it


def open_yolo(data_yaml: str, split: str) -> DetectionDataset:
    """A split of a data set in YOLO's form.

    `data.yaml` has `names` (a list, or a dict index -> name), optionally `path`, and for the split
    a directory of images, a text file that lists them, or a list of these. The labels of
    `.../images/x.jpg` are the lines of `.../labels/x.txt`: class, then centre x, centre y, width
    and height as fractions of the image, or three or more points of an outline. An image without
    a text file is background.

    Args:
        data_yaml: path of the YAML file; relative paths in it start from its directory.
        split: "train", "val", ... as in the file.
    """
    content = _read_yaml(data_yaml)
    names = _class_names(content, data_yaml)
    problems = Problems()
    images = _image_files(content, data_yaml, split, problems)
    if str(content.get("nc", len(names))).strip() != str(len(names)):
        problems.add("class_count", f"{data_yaml}: nc {shown(content['nc'])}, {len(names)} names")
    builder = DatasetBuilder(f"yolo:{data_yaml}:{split}", names.values(), list(names), problems)
    label_of = {index: label for label, index in enumerate(names)}
    for name, file in images:
        if not os.path.isfile(file):
            problems.add("missing_image", file)
            continue
        try:
            height, width = displayed_size(file)
        except ImageError as error:
            problems.add(error.kind, file)
            continue
        objects = _read_labels(_label_file(file), problems)
        if objects is None:
            continue
        scaled = [[v * (width, height)[k % 2] for k, v in enumerate(o[1:])] for o in objects]
        is_outline = [len(values) > 4 for values in scaled]
        builder.add_image(
            image_id=os.path.splitext(name)[0],
            file_name=name,
            file=file,
            size=(height, width),
            boxes=[_box(values) for values in scaled],
            labels=[label_of.get(int(o[0]), -1) for o in objects],
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
    content: dict, data_yaml: str, split: str, problems: Problems
) -> list[tuple[str, str]]:
    """(name inside the data set, path) of each image of a split."""
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
        found.extend(_listed(path, root) if os.path.isfile(path) else _walked(path, problems))
    if not found:
        details = "".join(f"; {line}" for line in problems.lines())
        raise UserError(f"{data_yaml}: {split}: there is no image in {shown(places)}{details}")
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
