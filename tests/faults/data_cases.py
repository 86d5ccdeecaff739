"""Data sets: damaged, odd, hostile, or just not as expected."""

import dataclasses
import functools
import io
import json
import os
import pathlib
import struct

import numpy as np
from PIL import Image

from tests.faults.case import Case
from tests.faults.recipe_cases import TINY


def picture(kind: str = "JPEG", size: tuple[int, int] = (60, 40), **options) -> bytes:
    """An encoded image of (width, height)."""
    file = io.BytesIO()
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(coarse).resize(size).save(file, kind, **options)
    return file.getvalue()


def coco(folder: pathlib.Path, names=("cat", "dog"), image_ids=(1, 2), **changes) -> str:
    """Two images with a box each; `changes` are keys of the annotations. Gives the data set."""
    (folder / "i").mkdir()
    images, annotations = [], []
    for k, image_id in enumerate(image_ids, 1):
        (folder / "i" / f"{k}.jpg").write_bytes(picture())
        images.append({"id": image_id, "file_name": f"{k}.jpg", "height": 40, "width": 60})
        box = {"id": k, "image_id": image_id, "category_id": k, "bbox": [5, 5, 20, 20]}
        annotations.append(box | changes)
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "a.json").write_text(json.dumps(content))
    return "coco:a.json:i"


def check_coco(**changes):
    return lambda folder: ["tfdet-data", "check", f"--data={coco(folder, **changes)}"]


def with_a_null_category(folder: pathlib.Path) -> list[str]:
    spec = coco(folder)
    content = json.loads((folder / "a.json").read_text())
    content["categories"].append(None)
    (folder / "a.json").write_text(json.dumps(content))
    return ["tfdet-data", "check", f"--data={spec}"]


def with_bom(folder: pathlib.Path) -> list[str]:
    spec = coco(folder)
    (folder / "a.json").write_bytes(b"\xef\xbb\xbf" + (folder / "a.json").read_bytes())
    return ["tfdet-data", "check", f"--data={spec}"]


def long_id(folder: pathlib.Path) -> list[str]:
    spec = coco(folder)
    before, _, after = (folder / "a.json").read_text().partition('"categories": [{"id": 1')
    (folder / "a.json").write_text(f'{before}"categories": [{{"id": 1{30 * "0"}{after}')
    return ["tfdet-data", "check", f"--data={spec}"]


def masks_of(counts: object):
    """`tfdet-train` of a Mask R-CNN on run-length masks."""

    def make(folder: pathlib.Path) -> list[str]:
        spec = coco(folder, segmentation={"size": [40, 60], "counts": counts}, iscrowd=0)
        name = TINY.replace("efficientdet-test", "mask-rcnn-test")
        return ["tfdet-train", name, f"--data={spec}", "--model_dir=m"]

    return make


OBJECT = (
    "<object><name>{}</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax>"
    "</bndbox></object>"
)


def voc(head: str = "", names=("cat", "dog"), stems=("a", "b"), size: str = "", split: str = ""):
    """`tfdet-data check` of two images with an object each."""

    def make(folder: pathlib.Path) -> list[str]:
        for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (folder / "v" / part).mkdir(parents=True)
        for stem, name in zip(stems, names, strict=True):
            (folder / "v/JPEGImages" / f"{stem}.jpg").write_bytes(picture())
            xml = f"{head}<annotation>{size}{OBJECT.format(name)}</annotation>"
            (folder / "v/Annotations" / f"{stem}.xml").write_text(xml)
        (folder / "v/ImageSets/Main/train.txt").write_text(split or "\n".join(stems))
        return ["tfdet-data", "check", "--data=voc:v:train"]

    return make


def voc_elsewhere(folder: pathlib.Path) -> list[str]:
    voc()(folder)
    (folder / "v/Annotations").rename(folder / "v/xml")
    return ["tfdet-data", "check", "--data=voc:v:train"]


def yolo(yaml: str = "train: images\nnames: [cat, dog]\n", label: bytes = b"", more=None):
    """`tfdet-data check` of two images, of which the first has a box."""

    def make(folder: pathlib.Path) -> list[str]:
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        for stem in ("x", "y"):
            (folder / "images" / f"{stem}.jpg").write_bytes(picture())
        (folder / "labels/x.txt").write_bytes(label or b"0 0.5 0.5 0.2 0.2\n")
        (folder / "data.yaml").write_text(yaml)
        if more:
            more(folder)
        return ["tfdet-data", "check", "--data=yolo:data.yaml:train"]

    return make


@functools.cache
def shards() -> tuple[bytes, ...]:
    """Three record files of six pictures."""
    import tempfile

    from tfdet.data.convert import convert
    from tfdet.data.sources import open_dataset

    with tempfile.TemporaryDirectory() as folder:
        paths = convert(open_dataset("shapes:val:6"), f"{folder}/r", 3)
        return tuple(pathlib.Path(path).read_bytes() for path in paths)


def records(change=None, keep=(0, 1, 2), labels: str = ""):
    """`tfdet-data check` of those of the three files, the first one changed."""

    def make(folder: pathlib.Path) -> list[str]:
        for k in keep:
            content = bytearray(shards()[k])
            if change and k == 0:
                change(content)
            (folder / f"r-{k:05d}-of-00003.tfrecord").write_bytes(content)
        if labels:
            (folder / "r-labels.json").write_text(labels)
        return ["tfdet-data", "check", "--data=tfrecord:r-*-of-00003.tfrecord"]

    return make


def other_box(content: bytearray) -> None:
    key = content.index(b"image/object/bbox/xmin") + len(b"image/object/bbox/xmin")
    content[key + 6] ^= 0x10  # of the first float behind the heads of three fields


def one_record(**changes):
    """`tfdet-data check` of a record with these features in place of the usual ones."""

    def make(folder: pathlib.Path) -> list[str]:
        import tensorflow as tf

        from tests.faults.records import example

        with tf.io.TFRecordWriter(str(folder / "r.tfrecord")) as writer:
            writer.write(example(picture(), name=b"a.jpg"))
            writer.write(example(picture(), name=b"b.jpg", **changes))
        return ["tfdet-data", "check", "--data=tfrecord:r.tfrecord"]

    return make


FINE = {"code": 0, "never": ("nothing is wrong",)}
COCO = [
    Case(
        "B6 a class name with a line break",
        check_coco(names=("cat\n", "fire\r\nhydrant")),
        code=0,
        says="boxes per class: cat 1, fire hydrant 1\n",
    ),
    Case(
        "B6 P29 a class name that steers the terminal",
        check_coco(names=("\x1b[31mcat", "dog")),
        code=0,
        says=r"boxes per class: \\x1b\[31mcat 1, dog 1",
        never=("\x1b",),
    ),
    Case(
        "B6 two classes that are one without the line break",
        check_coco(names=("cat", "cat\n")),
        says="has two classes named 'cat'; give each its own name",
    ),
    Case("B16 image ids of mixed kind", check_coco(image_ids=("x", 2)), code=0, says="2 images"),
    Case(
        "B16 a category id of 31 digits",
        long_id,
        says="id in 'categories' must be a whole number of 64 bits, got 10",
    ),
    Case(
        "B16 a run of 10**12 pixels in a mask",
        masks_of([10**12]),
        says="2 x outline that cannot be -> left out, its box is kept",
    ),
    Case(
        "B16 null among the categories",
        with_a_null_category,
        says="an entry of 'categories' lacks id: None",
    ),
    Case("P13 a byte order mark", with_bom, code=0, says="2 images, 2 boxes"),
    Case("P14 iscrowd is text", check_coco(iscrowd="0"), code=0, says=r"\(0 crowds\)"),
    Case(
        "P14 outlines that are none",
        check_coco(segmentation=[[1, 2, "x"]]),
        **FINE,
        says="2 x outline that cannot be: left out, its box is kept",
    ),
    Case(
        "P9 points at infinity",
        check_coco(segmentation=[[1e300, 0, 1, 0, 1, 1]]),
        **FINE,
        says="2 x outline that cannot be",
    ),
    Case(
        "P15 classes that differ in case alone",
        check_coco(names=("Cat", "cat")),
        **FINE,
        says=("1 x class names that differ in upper and lower case alone", "Cat and cat"),
    ),
    Case(
        "P19 the validation data of the recipe is elsewhere",
        lambda folder: [
            "tfdet-train",
            TINY,
            "--hparams=data.val=voc:BCCD:val",
            "--data=shapes:train:4",
            "--model_dir=m",
        ],
        says=(
            "data.val=voc:BCCD:val, which --val_data replaces: VOC data set: there is no directory"
            " 'BCCD' in /"
        ),
        leaves=(),
    ),
]
VOC = [
    Case(
        "B6 a class name with a line break",
        voc(names=("fire\nhydrant", "dog\n")),
        code=0,
        says="boxes per class: dog 1, fire hydrant 1\n",
    ),
    Case(
        "B16 an unknown encoding of XML",
        voc(head='<?xml version="1.0" encoding="x-foo"?>'),
        says="no object has a class name",
    ),
    Case(
        "B16 an image of infinite width",
        voc(size="<size><width>1e400</width><height>40</height></size>"),
        code=0,
        says="2 images, 2 boxes",
    ),
    Case("P15 names with spaces", voc(stems=("a b", "c 1")), code=0, says="2 images, 2 boxes"),
    Case(
        "P15 class-wise lists",
        voc(stems=("a b", "c"), split="a b  1\nc -1\n"),
        code=0,
        says="2 images, 2 boxes",
    ),
    Case(
        "P18 another layout",
        voc_elsewhere,
        says="expected in v: Annotations/.*xml, ImageSets/Main/SPLIT.txt .*, and JPEGImages",
    ),
]
YOLO = [
    Case(
        "B6 a class name with a line break",
        yolo('train: images\nnames: ["cat\\n", dog]\n'),
        code=0,
        says="boxes per class: cat 1, dog 0\n",
    ),
    Case("B16 data.yaml is nested", yolo("[" * 3000), says="data.yaml .* nested too deep"),
    Case(
        "B16 data.yaml has a number of 5000 digits",
        yolo(f"train: images\nnc: {5000 * '9'}\nnames: [cat, dog]\n"),
        **FINE,
        says="1 x nc is not the number of names",
    ),
    Case(
        "P11 pictures in formats that are not read",
        yolo(more=lambda folder: (folder / "images/z.tif").write_bytes(picture("TIFF"))),
        **FINE,
        says=("1 x picture in a format that is not read: left out", r"images/z\.tif"),
    ),
    Case(
        "P13 a byte order mark",
        yolo(label=b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\n"),
        code=0,
        says="2 images, 1 box",
    ),
    Case(
        "P16 labels in an unexpected folder",
        yolo(more=lambda folder: (folder / "labels").rename(folder / "txt")),
        **FINE,
        says=("2 x image without a label file", r"labels/x\.txt"),
    ),
    Case(
        "P16 names that YAML takes for something else",
        yolo("train: images\nnames: [1, yes, null]\n"),
        code=0,
        says="boxes per class: 1 1, yes 0, null 0",
    ),
    Case(
        "P16 names stands twice",
        yolo("train: images\nnames: [a, b]\nnames: [c, d]\n"),
        says="data.yaml is not YAML in line 3: the key 'names' stands twice",
    ),
    Case(
        "P16 nc is not the number of names",
        yolo("train: images\nnc: 3\nnames: [cat, dog]\n"),
        **FINE,
        says="nc is not the number of names: the names count",
    ),
    Case(
        "P16 label files that are a loop and a folder",
        yolo(
            more=lambda folder: (
                (folder / "labels/y.txt").symlink_to("y.txt"),
                (folder / "images/w.jpg").write_bytes(picture()),
                (folder / "labels/w.txt").mkdir(),
            )
        ),
        **FINE,
        says=("1 image", "2 x annotation cannot be read: its image is left out"),
    ),
    Case(
        "P16 a label file that never ends",
        yolo(more=lambda folder: os.mkfifo(folder / "labels/y.txt")),
        **FINE,
        says=r"labels/y\.txt: not a file",
    ),
]
RECORDS = [
    Case(
        "B11 a file of the series is missing",
        records(keep=(0, 2)),
        **FINE,
        says=("1 x record file of a series is missing", "r-00001-of-00003.tfrecord"),
    ),
    Case(
        "B11 a box has changed",
        records(other_box),
        **FINE,
        says=("1 x record whose checksum is wrong", "r-00000-of-00003.tfrecord at byte"),
    ),
    Case(
        "B11 a length has changed",
        records(lambda content: content.__setitem__(1, content[1] ^ 1)),
        **FINE,
        says=("1 x record of a length whose checksum is wrong: rest of the file is left out",),
    ),
    Case(
        "B16 a labels file of 100000 brackets",
        records(labels="[" * 100_000),
        says="r-labels.json is not a JSON file: values are nested too deep",
    ),
    Case(
        "B16 an image of infinite height",
        one_record(height=[float("inf")]),
        code=0,
        says="2 images, 2 boxes",
    ),
    Case(
        "P17 one id with two names",
        one_record(text=[b"dog"]),
        **FINE,
        says=("1 x class id with a second name: the first one counts", "id 1: 'cat' and 'dog'"),
    ),
    Case(
        "P17 a label that is no whole number",
        one_record(label=[1.5]),
        **FINE,
        says=("2 images, 1 box", "1 x box of an unknown class"),
    ),
]


def make_into(folder: pathlib.Path, *flags: str) -> list[str]:
    (folder / "d/annotations").mkdir(parents=True)
    (folder / "d/annotations/instances_val.json").write_text("mine")
    return ["tfdet-data", "make", "shapes", "--split=val", "--count=2", "--output=d", *flags]


def make_among(folder: pathlib.Path) -> list[str]:
    (folder / "d/val").mkdir(parents=True)
    (folder / "d/val/val_000001.png").write_bytes(b"mine")
    return ["tfdet-data", "make", "shapes", "--split=val", "--count=2", "--output=d"]


def make_again(folder: pathlib.Path) -> list[str]:
    """As a run that was stopped in the middle of the first picture leaves it."""
    from tfdet.data.sources import open_dataset

    (folder / "d/val").mkdir(parents=True)
    part = open_dataset("shapes:val:1").encoded(0)[:100]
    (folder / "d/val/val_000000.png").write_bytes(part)
    return ["tfdet-data", "make", "shapes", "--split=val", "--count=2", "--output=d"]


def convert_onto(name: str, *flags: str):
    def make(folder: pathlib.Path) -> list[str]:
        (folder / "c").mkdir()
        (folder / "c" / name).write_text("mine")
        return ["tfdet-data", "convert", "shapes:val:2", "--output=c/x", *flags]

    return make


def odd_name(folder: pathlib.Path) -> list[str]:
    """A YOLO data set with a file whose name is not UTF-8."""
    yolo()(folder)
    (folder / "labels/x.txt").rename(folder / "labels/\udcff.txt")
    (folder / "images/x.jpg").rename(folder / "images/\udcff.jpg")
    return ["tfdet-data", "convert", "yolo:data.yaml:train", "--output=c/x"]


SHARD = "x-00000-of-00001.tfrecord"
WRITING = [
    Case(
        "B9 make replaces no annotations",
        make_into,
        says="d/annotations/instances_val.json is there already; give another --output, or --over",
        keeps=("d/annotations/instances_val.json",),
        leaves=(),
    ),
    Case(
        "B9 make replaces them where it is told to", lambda f: make_into(f, "--overwrite"), code=0
    ),
    Case(
        "B9 make replaces no picture",
        make_among,
        says="d/val/val_000001.png is there already",
        keeps=("d/val/val_000001.png",),
    ),
    Case("B9 make goes on where it was stopped", make_again, code=0, says="coco:d/annotations"),
    Case(
        "B9 convert replaces no records",
        convert_onto(SHARD),
        says=f"c/{SHARD} is there already",
        keeps=(f"c/{SHARD}",),
        leaves=(),
    ),
    Case(
        "B9 convert replaces no labels",
        convert_onto("x-labels.json"),
        says="c/x-labels.json is there already",
        keeps=("c/x-labels.json",),
        leaves=(),
    ),
    Case(
        "B9 convert replaces them where it is told to",
        convert_onto(SHARD, "--overwrite"),
        code=0,
        says="read them again: they hold the same",
    ),
    Case("B14 a name that is not UTF-8", odd_name, code=0, says="they hold the same"),
]


def odd_image(content: bytes, name: str = "x.jpg"):
    """`tfdet-data check` of YOLO images of which one has this content."""
    return yolo(more=lambda folder: (folder / "images" / name).write_bytes(content))


def png_that_claims(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


MOVING = {"save_all": True, "append_images": (Image.new("RGB", (60, 40), (9, 9, 9)),)}
IMAGES = [
    Case(
        "P9 an animated WebP",
        odd_image(picture("WEBP", **MOVING), "z.webp"),
        **FINE,
        says="1 x animated WebP: left out; save one of its pictures",
    ),
    Case(
        "P9 a JPEG that lacks some bytes in the middle",
        odd_image(picture()[:-60] + picture()[-40:], "z.jpg"),
        **(FINE | {"never": ("Corrupt JPEG",)}),
        says=("1 x image with damage that its decoder passes over", "z.jpg"),
    ),
    Case(
        "P9 an image between Pillow's limit and ours",
        odd_image(png_that_claims(9500, 9500), "z.png"),
        code=0,
        says="1 x image is truncated or damaged inside",
    ),
]

CASES = [
    *COCO,
    *[dataclasses.replace(case, name=case.name + " (VOC)") for case in VOC],
    *[dataclasses.replace(case, name=case.name + " (YOLO)") for case in YOLO],
    *[dataclasses.replace(case, name=case.name + " (records)") for case in RECORDS],
    *WRITING,
    *IMAGES,
]
