"""Good inputs of all commands, made once and copied from there."""

import atexit
import contextlib
import functools
import io
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.faults import case
from tests.faults.recipe_cases import TINY

SIZE = (40, 48)  # height, width
CLASSES = ("circle", "square")
COUNT = 4
KEPT = "TFDET_FAULTS_INPUTS"  # in the environment


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


def write_images(folder: pathlib.Path) -> None:
    """A YOLO data set of pictures in all formats that are read, some of them odd ones."""
    draw = np.random.default_rng(0)
    colours = [Image.fromarray(draw.integers(0, 256, (*SIZE, 3), np.uint8)) for _ in range(3)]
    moving = {"save_all": True, "append_images": colours[1:]}
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "images").mkdir()
    for name, image, options in (
        ("a.jpg", colours[0], {"exif": exif}),
        ("progressive.jpg", colours[0], {"progressive": True, "quality": 60}),
        ("grey.jpg", colours[0].convert("L"), {}),
        ("cmyk.jpg", colours[0].convert("CMYK"), {}),
        ("a.png", colours[0], {}),
        ("palette.png", colours[0].convert("P"), {}),
        ("clear.png", colours[0].convert("RGBA"), {}),
        ("deep.png", Image.fromarray(draw.integers(0, 2**16, SIZE, np.uint16)), {}),
        ("a.bmp", colours[0], {}),
        ("palette.bmp", colours[0].convert("P"), {}),
        ("a.gif", colours[0], {}),
        ("moving.gif", colours[0], moving),
        ("a.webp", colours[0], {}),
        ("lossless.webp", colours[0], {"lossless": True}),
        ("clear.webp", colours[0].convert("RGBA"), {}),
        ("moving.webp", colours[0], moving),
    ):
        image.save(folder / "images" / name, **options)
    (folder / "labels").mkdir()
    (folder / "labels/a.txt").write_text("0 0.4 0.4 0.5 0.3\n")
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nnames: {list(CLASSES)}\n")


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


@functools.cache
def kept() -> pathlib.Path:
    """Where good inputs are kept: until this process ends, or where another one has made them."""
    if KEPT in os.environ:
        return pathlib.Path(os.environ[KEPT])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tfdet-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _once(make: Callable[[pathlib.Path], None]) -> Callable[[pathlib.Path], None]:
    """Copies what `make` writes the first time into each folder."""

    @functools.cache
    def made() -> pathlib.Path:
        path = kept() / make.__name__
        if not path.is_dir():
            unfinished = path.with_name(f"{path.name}-{os.getpid()}")
            unfinished.mkdir()
            with inside(unfinished):
                make(unfinished)
            try:
                unfinished.rename(path)
            except OSError:  # another process was faster
                shutil.rmtree(unfinished)
        return path

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


@_once
def write_dynamic(folder: pathlib.Path) -> None:
    """A dynamic detector with a router that tells nothing apart, calibrated, and its export."""
    write_coco(folder)
    data = ("--data=coco:coco.json:images", "--model_dir=m")
    _run("tfdet-train", TINY, "--model_name=dy-efficientdet-test", *data)
    _run("tfdet-eval", *data, "--calibrate")


@_once
def write_weights(folder: pathlib.Path) -> None:
    """Weights and whole models as Keras writes them, without a checksum."""
    import keras

    from tfdet import registry

    write_coco(folder)
    model = registry.create("efficientdet-test", num_classes=len(CLASSES))
    model.save_weights(folder / "w.weights.h5")
    whole = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    whole.save(folder / "w.keras")
    with contextlib.redirect_stderr(io.StringIO()):
        whole.save(folder / "w.h5")


@_once
def write_photos(folder: pathlib.Path) -> None:
    """Classes to pretrain with."""
    for name in CLASSES:
        for i in range(COUNT):
            picture(folder / f"images/{name}/{i}.{('jpg', 'png', 'bmp', 'webp')[i]}", i)
    (folder / "recipe.yaml").write_text(
        "model:\n  name: caddet-test\ndata:\n  train: images\n  image_size: [32, 32]\n"
        "train:\n  batch_size: 8\n  num_epochs: 1\n  warmup_epochs: 0\n  optimizer: sgd\n"
        "  learning_rate: 0.01\n  ema_decay: 0.5\neval: {interval: 1, batch_size: 8}\n"
    )


@_once
def write_search(folder: pathlib.Path) -> None:
    """Detectors on ResNets, a super-network, and a search of one candidate, all untrained."""
    from tests.nas import small_search

    for name, encoding, elastic in (
        ("base", small_search.BASE, None),
        ("larger", small_search.LARGER, None),
        ("pool", small_search.SUPER, small_search.ELASTIC),
    ):
        small_search.write_detector(name, encoding, elastic=elastic)
    (folder / "student.json").write_text(small_search.BASE.to_json())
    recipe = f"--hparams={small_search.HPARAMS}", "--hparams=search.candidates=1"
    _run("tfdet-search", *recipe, "--base=base", "--teacher=larger", "--search_dir=s")
    shutil.rmtree("s/student_0000", ignore_errors=True)
    shutil.rmtree("s/student_0001", ignore_errors=True)


def write_recipe(folder: pathlib.Path) -> None:
    write_coco(folder)
    (folder / "recipe.yaml").write_text(
        "model:\n  name: efficientdet-test\n  image_size: [64, 64]\n  nms: {iou_threshold: 0.5}\n"
        "data:\n  train: coco:coco.json:images\n  augment: {jitter_min: 0.8, jitter_max: 1.25}\n"
        "train:\n  batch_size: 2\n  num_epochs: 1\n  warmup_epochs: 0\n  optimizer: adam\n"
        '  learning_rate: 0.003\n  rates: [["kernel$", 0.5]]\n  frozen: "backbone"\n'
        "eval: {pictures: 0}\n"
    )
