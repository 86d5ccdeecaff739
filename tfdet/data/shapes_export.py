"""Writes the built-in `shapes` set as files, in COCO's layout."""

import errno
import json
import os
from collections.abc import Callable

from tfdet import files
from tfdet.data.convert import refuse_existing
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import open_small
from tfdet.data.shapes import SPLIT_SIZES, layout, open_shapes


def write_shapes(
    output_dir: str,
    counts: dict[str, int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    overwrite: bool = False,
) -> list[str]:
    """Writes `annotations/instances_<split>.json` and `<split>/*.png`.

    Args:
        output_dir: created where it does not exist.
        counts: split -> number of images; None takes both splits as they are.
        progress: called with (images done, images in all) of each split.
        overwrite: whether other files of these names are replaced; a `UserError` where there are
            some otherwise.

    Returns:
        The data sets' strings for `--data`.
    """
    counts = counts or SPLIT_SIZES
    paths = [_annotations(output_dir, split) for split in counts]
    if not overwrite:
        refuse_existing(paths)
    specs = []
    for path, (split, count) in zip(paths, counts.items(), strict=True):
        dataset = open_shapes(split, count)
        image_dir = os.path.join(output_dir, split)
        os.makedirs(image_dir, exist_ok=True)
        for i, name in enumerate(dataset.names):
            _write_image(os.path.join(image_dir, str(name)), dataset.encoded(i), overwrite)
            progress(i + 1, len(dataset))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # The annotations come last and at once: where they are, the images are complete.
        files.write_text(path, json.dumps(coco_annotations(dataset, split)))
        specs.append(f"coco:{path}:{image_dir}")
    return specs


def _annotations(output_dir: str, split: str) -> str:
    return os.path.join(output_dir, "annotations", f"instances_{split}.json")


def _write_image(path: str, content: bytes, overwrite: bool) -> None:
    """Writes a picture; what is there of it already, from a run that was stopped, may stay."""
    if os.path.lexists(path):
        with open_small(path) as file:
            before = file.read()
        if not overwrite and before != content[: len(before)]:
            refuse_existing([path])
        os.unlink(path)  # a link is not written through
    try:
        with open(path, "xb") as file:
            file.write(content)
    except OSError as error:
        if error.errno != errno.EEXIST:
            os.unlink(path)  # half a picture
        raise OSError(error.errno, error.strerror, path) from None


def coco_annotations(dataset: DetectionDataset, split: str) -> dict:
    """The contents of COCO's instances JSON; every image also has its `difficulty`, 0 to 1."""
    images, annotations = [], []
    for i, image_id in enumerate(dataset.image_ids.tolist()):
        height, width = dataset.sizes[i].tolist()
        difficulty = round(layout(split, image_id - 1).difficulty, 4)
        image = {"id": image_id, "file_name": str(dataset.names[i]), "difficulty": difficulty}
        images.append(image | {"height": height, "width": width})
        for row in range(*dataset.rows(i).indices(len(dataset.boxes))):
            x0, y0, x1, y1 = (float(v) for v in dataset.boxes[row])
            annotations.append(
                {
                    "id": row + 1,
                    "image_id": image_id,
                    "category_id": dataset.class_ids[dataset.labels[row]],
                    "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round(float(dataset.areas[row]), 2),
                    "iscrowd": 0,
                    "segmentation": dataset.outlines.segmentation(row),
                }
            )
    pairs = zip(dataset.class_ids, dataset.class_names, strict=True)
    categories = [{"id": class_id, "name": name} for class_id, name in pairs]
    return {"images": images, "annotations": annotations, "categories": categories}
