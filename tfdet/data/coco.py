"""Reader of COCO's instances JSON."""

import numpy as np

from tfdet import documents, limits
from tfdet.data import decode
from tfdet.data.builder import DatasetBuilder
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import join_inside, require_directory, require_file
from tfdet.errors import UserError
from tfdet.printable import shown


def open_coco(annotations: str, image_dir: str) -> DetectionDataset:
    """A data set in COCO's form.

    Classes are ordered by category id; the gaps between ids close, `class_ids` keeps them. Crowds
    stay, marked as such, and so do polygons and run-length masks.

    Args:
        annotations: path of the JSON file with `images`, `annotations` and `categories`. Images may
            have a `difficulty`, as those of `tfdet-data make shapes` do.
        image_dir: the directory that the `file_name` of an image starts from.
    """
    require_file(annotations, "COCO annotations")
    require_directory(image_dir, "COCO images")
    content = _read(annotations)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    ids = [category["id"] for category in categories]
    if len(set(ids)) < len(ids):
        raise UserError(f"{annotations}: two categories have the same id; make them unique")
    names = [_name(category.get("name")) for category in categories]
    builder = DatasetBuilder(f"coco:{annotations}", names, ids)
    boxes_of = _group_annotations(content, builder)
    label_of = {category_id: label for label, category_id in enumerate(ids)}
    for image in content["images"]:
        file = join_inside(image_dir, str(image["file_name"]))
        if file is None:
            builder.problems.add("unsafe_path", str(image["file_name"]))
            continue
        found = boxes_of.get(image["id"], [])
        builder.add_image(
            image_id=image["id"],
            file_name=str(image["file_name"]),
            file=file,
            size=_size(image),
            boxes=[_box(a.get("bbox")) for a in found],
            labels=[label_of.get(_key(a.get("category_id"), label_of), -1) for a in found],
            is_crowd=[_is_true(a.get("iscrowd", 0)) for a in found],
            areas=[_number(a.get("area")) for a in found],
            segmentations=[a.get("segmentation") for a in found],
            difficulty=_number(image.get("difficulty")),
        )
    return builder.build()


def _read(path: str) -> dict:
    text = documents.read_text(path, "COCO annotations", limits.MAX_ANNOTATIONS_BYTES)
    content = documents.parse_json(text, path)
    del text  # as large as what it says
    for key, needed in (("images", "file_name"), ("annotations", "image_id"), ("categories", "id")):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path} has no list {key!r}; expected COCO's instances form")
        required = {"id", needed} if key == "images" else {needed}
        for row in rows:
            if not isinstance(row, dict) or not required <= row.keys():
                missing = " and ".join(sorted(required))
                raise UserError(f"{path}: an entry of {key!r} lacks {missing}: {shown(row)}")
    _check_types(path, content["images"], "images", id=(int, str), file_name=(str,))
    _check_types(path, content["categories"], "categories", id=(int,))
    if not content["categories"]:
        raise UserError(f"{path} has no categories; the classes are unknown without them")
    return content


def _check_types(path: str, rows: list[dict], where: str, **types: tuple[type, ...]) -> None:
    for row in rows:
        for key, allowed in types.items():
            value = row[key]
            is_long = isinstance(value, int) and not -(2**63) <= value < 2**63
            if not isinstance(value, allowed) or isinstance(value, bool) or is_long:
                kinds = {int: "a whole number of 64 bits", str: "text"}
                expected = " or ".join(kinds[t] for t in allowed)
                raise UserError(
                    f"{path}: {key} in {where!r} must be {expected}, got {shown(value)}"
                )


def _group_annotations(content: dict, builder: DatasetBuilder) -> dict:
    """Annotations by image id; second ones of the same id and strays are counted, left out."""
    boxes_of: dict = {image["id"]: [] for image in content["images"]}
    names = {image["id"]: str(image["file_name"]) for image in content["images"]}
    seen = set()
    for annotation in content["annotations"]:
        image_id = _key(annotation["image_id"], boxes_of)
        annotation_id = _key(annotation.get("id"))
        if image_id not in boxes_of:
            builder.problems.add("unknown_image", f"image id {annotation['image_id']}")
        elif annotation_id is not None and annotation_id in seen:
            builder.problems.add("duplicate_id", f"{names[image_id]} (box id {annotation_id})")
        else:
            seen.add(annotation_id)
            boxes_of[image_id].append(annotation)
    return boxes_of


def _size(image: dict) -> tuple[int, int] | None:
    return decode.as_size(_number(image.get("height")), _number(image.get("width")))


def _box(bbox) -> list[float]:
    """xyxy of COCO's [x, y, width, height]; NaN where it is not four numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return [np.nan] * 4
    x, y, width, height = (_number(v) for v in bbox)
    return [x, y, x + width, y + height]


def _number(value) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else np.nan
    except OverflowError:  # JSON has whole numbers of any length
        return np.nan


def _is_true(value) -> bool:
    """A flag; some tools write it as text."""
    return value.strip().lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value)


def _name(value) -> str:
    return value if isinstance(value, str) else "" if value is None else shown(value)


def _key(value, known=()) -> int | str | None:
    """An id; None, which no image and no class has, where it cannot be one.

    Some tools write "7" or 7.0 for 7, or 7 for "7": where that alone is `known`, it is meant.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (int, str)):
        return None
    if value in known:
        return value
    try:
        other = int(value) if isinstance(value, str) else str(value)
    except ValueError:  # also of more digits than Python reads
        return value
    return other if other in known else value
