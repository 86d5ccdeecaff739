"""Reader of COCO's instances JSON."""

import os

import numpy as np

from tfdet import json_rows, limits
from tfdet.data import index_cache
from tfdet.data.builder import DatasetBuilder
from tfdet.data.coco_columns import AnnotationRows, CategoryRows, ImageRows
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import join_inside, require_directory, require_file
from tfdet.errors import UserError


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
    return index_cache.opened(
        ["coco", annotations, image_dir, os.path.abspath(image_dir)],
        [annotations],
        lambda: _read(annotations, image_dir),
        lambda dataset: all(map(os.path.isfile, dataset.files.tolist())),
    )


def _read(annotations: str, image_dir: str) -> tuple[DetectionDataset, bool]:
    """The data set, and whether it follows from the annotations alone, given all image files."""
    images, rows, categories = _read_lists(annotations)
    ids = sorted(categories.ids)
    if len(set(ids)) < len(ids):
        raise UserError(f"{annotations}: two categories have the same id; make them unique")
    name_of = dict(zip(categories.ids, categories.names, strict=True))
    names = [name_of[class_id] for class_id in ids]
    label_of = {class_id: label for label, class_id in enumerate(ids)}
    builder = DatasetBuilder(f"coco:{annotations}", names, ids, objects=rows.objects(label_of))
    file_names = dict(zip(images.ids, images.names, strict=True))
    rows_of = rows.by_image(rows.kept(file_names, builder.problems))
    nothing = np.zeros(0, np.int64)
    for i, image_id in enumerate(images.ids):
        file = join_inside(image_dir, images.names[i])
        if file is None:
            builder.problems.add("unsafe_path", images.names[i])
            continue
        builder.add_image_of_rows(
            rows_of.get(image_id, nothing),
            image_id=image_id,
            file_name=images.names[i],
            file=file,
            size=images.sizes[i],
            difficulty=images.difficulties[i],
        )
    has_sizes = None not in images.sizes  # the others stand in the image files
    del images, rows, file_names, rows_of  # large, and of no use any more
    dataset = builder.build()
    return dataset, has_sizes and "missing_image" not in dataset.problems.counts


def _read_lists(path: str) -> tuple[ImageRows, AnnotationRows, CategoryRows]:
    images, rows, categories = ImageRows(), AnnotationRows(), CategoryRows()
    lists = {"images": images, "annotations": rows, "categories": categories}
    found = json_rows.read(path, "COCO annotations", limits.MAX_ANNOTATIONS_BYTES, lists)
    for key, column in lists.items():
        if key not in found:
            raise UserError(f"{path} has no list {key!r}; expected COCO's instances form")
        if column.lacking:
            raise UserError(f"{path}: an entry of {key!r} {column.lacking}")
    for key, column in lists.items():
        if column.mistyped:
            name, problem = column.mistyped
            raise UserError(f"{path}: {name} in {key!r} {problem}")
    if not categories.ids:
        raise UserError(f"{path} has no categories; the classes are unknown without them")
    return images, rows, categories
