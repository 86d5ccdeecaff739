"""Tables of what `tfdet-infer` found: CSV, COCO's form, and YOLO's labels."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfdet import files
from tfdet.cli.infer_folder import COCO, COCO_HEAD, CSV, CSV_HEAD, WRITER, Folder, labels_name
from tfdet.version import __version__

if TYPE_CHECKING:
    from tfdet.serving.driver import Driver


@dataclasses.dataclass(frozen=True)
class _Seen:
    """An image, or a frame of a video, and what was found in it."""

    file: str
    frame: int | None
    size: tuple[int, int]
    detections: list[dict[str, Any]]
    labels: str  # file for YOLO's form


def wanted(options: types.SimpleNamespace) -> tuple[str, ...]:
    """The names of the tables that the flags ask for, in the output folder itself."""
    names = {"save_csv": CSV, "save_coco": COCO}
    return tuple(name for flag, name in names.items() if getattr(options, flag))


def labels_of(picture: str) -> dict[str, str]:
    """What the entry of an image with this picture also names with --save_txt."""
    return {"labels": labels_name(picture)}


def write(options: types.SimpleNamespace, folder: Folder, driver: "Driver") -> None:
    """Writes the tables that the flags ask for, of all that `folder` has entries of."""
    if options.save_csv:
        _write_csv(folder)
    if options.save_coco:
        _write_coco(folder, driver)
    if options.save_txt:
        _write_labels(folder, driver)


def _seen(folder: Folder) -> Iterator[_Seen]:
    for entry in folder.results:
        if "frames" not in entry:
            labels = entry.get("labels", "")
            yield _Seen(entry["file"], None, tuple(entry["size"]), entry["detections"], labels)
            continue
        with open(folder.path / entry["frames"], encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                labels = f"{entry.get('labels', '')}/{one['frame']:06d}.txt"
                yield _Seen(
                    entry["file"], one["frame"], tuple(one["size"]), one["detections"], labels
                )


def _write_csv(folder: Folder) -> None:
    with files.writing(folder.path / CSV) as file:
        # Names of files may be no text at all; they come out as they went in.
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(CSV_HEAD.split(","))
        for seen in _seen(folder):
            frame = "" if seen.frame is None else seen.frame
            for one in seen.detections:
                facts = (one["class"], one["category_id"], one["score"], *one["box_xyxy"])
                rows.writerow((seen.file, frame, *facts))
        text.flush()
        text.detach()


def _write_coco(folder: Folder, driver: "Driver") -> None:
    """Images, categories and annotations with a score: what pycocotools' COCO class reads.

    The list of annotations is also what its `loadRes` takes.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    ids = _image_ids(folder)
    for number, seen in enumerate(_seen(folder)):
        height, width = seen.size
        name = os.path.basename(seen.file)
        image = {"id": ids[number], "file_name": name, "width": width, "height": height}
        images.append(image if seen.frame is None else {**image, "frame": seen.frame})
        for one in seen.detections:
            annotations.append(_annotation(len(annotations) + 1, ids[number], one))
    pairs = zip(driver.class_ids, driver.class_names, strict=True)
    facts = {
        "info": {"description": WRITER, "version": __version__},
        "images": images,
        "categories": [{"id": i, "name": name} for i, name in pairs],
        "annotations": annotations,
    }
    text = json.dumps(facts)
    assert text.startswith(COCO_HEAD), "by it the file is known as ours"
    files.write_text(folder.path / COCO, text + "\n")


def _image_ids(folder: Folder) -> list[int]:
    """COCO's own names are numbers, which are the ids; others are counted from 1."""
    seen = list(_seen(folder))
    stems = [pathlib.Path(x.file).stem for x in seen]
    are_ids = all(x.isascii() and x.isdecimal() and len(x) < 18 for x in stems)
    if are_ids and len({int(x) for x in stems}) == len(stems):
        return [int(x) for x in stems]
    return [i + 1 for i in range(len(seen))]


def _annotation(number: int, image: int, one: dict[str, Any]) -> dict[str, Any]:
    left, top, right, bottom = one["box_xyxy"]
    width, height = round(right - left, 2), round(bottom - top, 2)
    return {
        "id": number,
        "image_id": image,
        "category_id": one["category_id"],
        "bbox": [left, top, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": one["score"],
        **({"segmentation": one["segmentation"]} if "segmentation" in one else {}),
    }


def _write_labels(folder: Folder, driver: "Driver") -> None:
    """A file per image, empty where nothing was found: label, centre and size in parts of it."""
    label = {category: i for i, category in enumerate(driver.class_ids)}
    for seen in _seen(folder):
        height, width = seen.size
        lines = []
        for one in seen.detections:
            left, top, right, bottom = one["box_xyxy"]
            middle = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            sides = ((right - left) / width, (bottom - top) / height)
            numbers = " ".join(f"{x:.6f}" for x in (*middle, *sides))
            lines.append(f"{label[one['category_id']]} {numbers}\n")
        path = folder.path / seen.labels
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, "".join(lines))
