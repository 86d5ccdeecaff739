"""Damaged inputs of every kind, and the commands that are given them."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.faults import case, damage
from tests.faults.recipe_cases import TINY

SIZE = (40, 48)  # height, width
CLASSES = ("circle", "square")
COUNT = 4


@dataclasses.dataclass(frozen=True)
class Target:
    """A command and what is damaged of its inputs.

    Attributes:
        name: what is damaged.
        weight: how often it is drawn.
        write: puts good inputs into a folder.
        argv: the command, whose paths are relative to the folder.
        kinds: {pattern: kind} of the files to damage, see `damage.damage`.
        count: how many of them are damaged at once; each is counted as an input.
    """

    name: str
    weight: float
    write: Callable[[pathlib.Path], None]
    argv: tuple[str, ...]
    kinds: dict[str, str]
    count: int = 1


@contextlib.contextmanager
def inside(folder: str | pathlib.Path) -> Iterator[None]:
    """Within it `folder` is the working directory."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def picture(path: pathlib.Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_coco(folder: pathlib.Path) -> None:
    for i in range(COUNT):
        picture(folder / f"images/{i}.jpg", i)
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i in range(COUNT)
    ]
    outline = [4, 4, 30, 4, 30, 20, 4, 20]
    annotations = [
        {
            "id": i + 1,
            "image_id": i,
            "category_id": 1 + i % 2,
            "bbox": [4, 4, 26, 16],
            "area": 416,
            "iscrowd": 0,
            "segmentation": [outline],
        }
        for i in range(COUNT)
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    table = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(table))


def write_voc(folder: pathlib.Path) -> None:
    for name in ("Annotations", "ImageSets/Main"):
        (folder / "voc" / name).mkdir(parents=True)
    names = []
    for i in range(COUNT):
        names.append(f"img{i}")
        picture(folder / f"voc/JPEGImages/img{i}.jpg", i)
        (folder / f"voc/Annotations/img{i}.xml").write_text(
            f"<annotation><filename>img{i}.jpg</filename><size><width>{SIZE[1]}</width>"
            f"<height>{SIZE[0]}</height><depth>3</depth></size><object><name>{CLASSES[i % 2]}"
            "</name><difficult>0</difficult><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>30</xmax>"
            "<ymax>20</ymax></bndbox></object></annotation>"
        )
    (folder / "voc/ImageSets/Main/train.txt").write_text("\n".join(names) + "\n")


def write_yolo(folder: pathlib.Path) -> None:
    (folder / "labels").mkdir()
    for i in range(COUNT):
        picture(folder / f"images/{i}.jpg", i)
        (folder / f"labels/{i}.txt").write_text(f"{i % 2} 0.4 0.4 0.5 0.3\n1 0.5 0.5 0.9 0.8\n")
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nnc: 2\nnames: {list(CLASSES)}\n")


def _once(make: Callable[[pathlib.Path], None]) -> Callable[[pathlib.Path], None]:
    """Copies what `make` writes the first time into each folder."""

    @functools.cache
    def made() -> pathlib.Path:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="tfdet-fuzz-"))
        with inside(folder):
            make(folder)
        return folder

    return lambda folder: shutil.copytree(made(), folder, dirs_exist_ok=True)


def _run(*argv: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = case.run(argv)
    assert code == 0, printed.getvalue()


@_once
def write_records(folder: pathlib.Path) -> None:
    write_coco(folder)
    _run("tfdet-data", "convert", "coco:coco.json:images", "--output=r", "--num_shards=2")


@_once
def write_run(folder: pathlib.Path) -> None:
    write_coco(folder)
    _run("tfdet-train", TINY, "--data=coco:coco.json:images", "--model_dir=m")


@_once
def write_export(folder: pathlib.Path) -> None:
    write_run(folder)
    _run("tfdet-export", "--model_dir=m", "--output=s")
    for i in range(30):
        picture(folder / f"photos/{i}.{('jpg', 'png', 'bmp', 'gif', 'webp')[i % 5]}", i)


def write_recipe(folder: pathlib.Path) -> None:
    write_coco(folder)
    (folder / "recipe.yaml").write_text(
        "model:\n  name: efficientdet-test\n  image_size: [64, 64]\n  nms: {iou_threshold: 0.5}\n"
        "data:\n  train: coco:coco.json:images\n  augment: {jitter_min: 0.8, jitter_max: 1.25}\n"
        "train:\n  batch_size: 2\n  num_epochs: 1\n  warmup_epochs: 0\n  optimizer: adam\n"
        '  learning_rate: 0.003\n  rates: [["kernel$", 0.5]]\n  frozen: "backbone"\n'
        "eval: {pictures: 0}\n"
    )


IMAGES = {"images/*": "bytes"}
CHECK = ("tfdet-data", "check")
TARGETS = (
    Target("a COCO table", 30, write_coco, (*CHECK, "coco:coco.json:images"), {"*.json": "json"}),
    Target(
        "a COCO table, converted",
        8,
        write_coco,
        ("tfdet-data", "convert", "coco:coco.json:images", "--output=r"),
        {"*.json": "json"},
    ),
    Target("images of COCO", 8, write_coco, (*CHECK, "coco:coco.json:images"), IMAGES, 3),
    Target(
        "VOC's files",
        25,
        write_voc,
        (*CHECK, "voc:voc:train"),
        {"voc/Annotations/*": "text", "voc/ImageSets/Main/*": "text"},
        3,
    ),
    Target(
        "YOLO's files",
        25,
        write_yolo,
        (*CHECK, "yolo:data.yaml:train"),
        {"labels/*": "text", "data.yaml": "text"},
        2,
    ),
    Target(
        "records",
        20,
        write_records,
        (*CHECK, "tfrecord:r-*-of-00002.tfrecord"),
        {"r-*": "bytes", "*.labels.json": "json"},
    ),
    Target(
        "a recipe",
        1,
        write_recipe,
        ("tfdet-train", "--hparams=recipe.yaml", "--model_dir=m"),
        {"recipe.yaml": "text"},
    ),
    Target(
        "photographs",
        1,
        write_export,
        ("tfdet-infer", "--saved_model=s", "--input=photos/*", "--output_dir=o"),
        {"photos/*": "bytes"},
        30,
    ),
    Target(
        "a SavedModel",
        1,
        write_export,
        ("tfdet-infer", "--saved_model=s", "--input=photos/1.png", "--output_dir=o"),
        {"s/**/*": "bytes", "s/**/*.json": "json"},
    ),
    Target(
        "a model folder",
        1,
        write_run,
        ("tfdet-eval", "--model_dir=m", "--data=coco:coco.json:images"),
        {"m/*.h5": "bytes", "m/*.yaml": "text", "m/*.json": "json"},
    ),
    Target(
        "the state of a run",
        1,
        write_run,
        ("tfdet-train", TINY, "--data=coco:coco.json:images", "--model_dir=m"),
        {"m/**/*": "bytes"},
    ),
)


def write_all() -> None:
    """Makes all good inputs, and loads what commands load, so that no case waits for that."""
    for target in TARGETS:
        with tempfile.TemporaryDirectory(prefix="tfdet-fuzz-") as name:
            target.write(pathlib.Path(name))


def write_case(seed: int, number: int, folder: pathlib.Path) -> tuple[Target, int]:
    """Writes the inputs of a case into an empty folder; returns how many of them are damaged."""
    chance = random.Random(f"{seed} {number}")
    target = chance.choices(TARGETS, [t.weight for t in TARGETS])[0]
    target.write(folder)
    kinds = {
        path: kind
        for pattern, kind in target.kinds.items()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
    chosen = chance.sample(sorted(kinds), min(target.count, len(kinds)))
    for path in chosen:
        path.write_bytes(damage.damage(path.read_bytes(), kinds[path], chance))
    return target, len(chosen)


def run_case(seed: int, number: int) -> tuple[str, int, str]:
    """Runs a case.

    Returns:
        What was damaged, how many files of it, and how it ended badly; "" where it ended well.
    """
    with tempfile.TemporaryDirectory(prefix="tfdet-fuzz-") as name:
        target, count = write_case(seed, number, pathlib.Path(name))
        with inside(name):
            return target.name, count, _ends_badly(target.argv)


def _ends_badly(argv: tuple[str, ...]) -> str:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            case.run(argv)
    except BaseException:
        return traceback.format_exc()
    text = printed.getvalue()
    return text if "Traceback (most recent" in text else ""
