"""Reader of COCO's instances JSON."""

import dataclasses
import os

import numpy as np

from tfdet import json_rows, limits
from tfdet.data import coco_layouts, index_cache, splits
from tfdet.data.builder import DatasetBuilder
from tfdet.data.class_labels import ClassLabels
from tfdet.data.coco_columns import AnnotationRows, CategoryRows, ImageRows
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import join_inside, require_directory, require_file
from tfdet.errors import UserError


def open_coco(
    annotations: str, image_dir: str | None = None, split: str | None = None
) -> DetectionDataset:
    """A data set in COCO's form, or a split of it.

    Classes are ordered by category id; the gaps between ids close, `class_ids` keeps them. Crowds
    stay, marked as such, and so do polygons and run-length masks.

    Args:
        annotations: path of the JSON file with `images`, `annotations` and `categories`, or of a
            directory with such a file, see `coco_layouts`. Images may have a `difficulty`, as those
            of `tfdet-data make shapes` do.
        image_dir: the directory that the `file_name` of an image starts from; None looks for it.
        split: "train" or "val", made of the images, see `splits.made`, unless a directory has a
            file for it; None for all images.
    """
    assumed = []
    if os.path.isdir(annotations):
        annotations, split = coco_layouts.annotations_of(annotations, split)
        assumed.append(f"annotations in {annotations}")
    require_file(annotations, "COCO annotations")
    if image_dir is not None:
        require_directory(image_dir, "COCO images")
    place = [image_dir, os.path.abspath(image_dir)] if image_dir is not None else []
    dataset = index_cache.opened(
        ["coco", annotations, *place],
        [annotations],
        lambda: _read(annotations, image_dir),
        lambda dataset: all(map(os.path.isfile, dataset.files.tolist())),
    )
    if image_dir is None:
        assumed.append(f"images in {_directory_of(dataset)}")
    if assumed:
        dataset = dataclasses.replace(dataset, assumed=tuple(assumed))
    return splits.made(dataset, split) if split else dataset


def _directory_of(dataset: DetectionDataset) -> str:
    """The directory that the names of the images start from."""
    file, name = str(dataset.files[0]), str(dataset.names[0])
    return file[: -len(name) - 1]


def _read(annotations: str, image_dir: str | None) -> tuple[DetectionDataset, bool]:
    """The data set, and whether it follows from the annotations alone, given all image files."""
    images, rows, categories = _read_lists(annotations)
    if image_dir is None:
        image_dir = coco_layouts.image_directory(annotations, images.names)
    ids = sorted(categories.ids)
    if len(set(ids)) < len(ids):
        raise UserError(f"{annotations}: two categories have the same id; make them unique")
    name_of = dict(zip(categories.ids, categories.names, strict=True))
    names = [name_of[class_id] for class_id in ids]
    label_of = ClassLabels(ids)
    objects = rows.objects(label_of)
    unknown = label_of.unknown
    builder = DatasetBuilder(f"coco:{annotations}", names, ids, objects=objects, unknown=unknown)
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
