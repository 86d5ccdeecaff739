"""What strangers do who come from other projects, from Windows, from notebooks: a second look."""

import io
import json
import os
import pathlib
import shutil

from PIL import Image

from tests.faults import data_cases as data
from tests.faults import serving_cases as serving
from tests.faults import training_cases as training
from tests.faults.case import Case

CHECK = ["tfdet-data", "check", "--data=coco:a.json:i"]


def coco(change):
    """`tfdet-data check` of two images whose annotations `change` was called with."""

    def make(folder: pathlib.Path) -> list[str]:
        data.coco(folder)
        content = json.loads((folder / "a.json").read_text())
        change(content, folder)
        (folder / "a.json").write_text(json.dumps(content))
        return CHECK

    return make


def of_annotations(**changes):
    """`coco` with other values in each annotation; functions are called with the old value."""

    def change(content: dict, folder: pathlib.Path) -> None:
        for row in content["annotations"]:
            for key, value in changes.items():
                row[key] = value(row[key]) if callable(value) else value

    return coco(change)


def with_a_colon(folder: pathlib.Path) -> list[str]:
    (folder / "C:" / "my data").mkdir(parents=True)
    data.coco(folder / "C:" / "my data")
    return ["tfdet-data", "check", "--data=coco:C:/my data/a.json:C:/my data/i"]


def voc(change=None, **options):
    def make(folder: pathlib.Path) -> list[str]:
        argv = data.voc(**options)(folder)
        if change:
            change(folder / "v")
        return argv

    return make


def box_of_a(bndbox: str):
    xml = f"<annotation><object><name>cat</name>{bndbox}</object></annotation>"
    return lambda folder: (folder / "Annotations/a.xml").write_text(xml)


def listed(content: bytes):
    """`tfdet-data check` of a YOLO data set whose images stand in a list."""
    yaml = "train: train.txt\nnames: [cat, dog]\n"
    return data.yolo(yaml, more=lambda folder: (folder / "train.txt").write_bytes(content))


def apple_doubles(folder: pathlib.Path) -> None:
    (folder / "images/._x.jpg").write_bytes(b"\0\5\x16\7\0")
    (folder / "labels/._x.txt").write_bytes(b"\0\5\x16\7\0")


def records_in(place: str, name: str):
    """`tfdet-data check` of three record files in the folder `place`, called `name`."""

    def make(folder: pathlib.Path) -> list[str]:
        (folder / place).mkdir()
        for k, content in enumerate(data.shards()):
            (folder / place / f"r-{k}.tfrecord").write_bytes(content)
        return ["tfdet-data", "check", f"--data=tfrecord:{name}"]

    return make


def other_records(folder: pathlib.Path) -> list[str]:
    import tensorflow as tf

    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data.picture()]))
    example = tf.train.Example(features=tf.train.Features(feature={"jpeg": feature}))
    with tf.io.TFRecordWriter(str(folder / "r.tfrecord")) as writer:
        writer.write(example.SerializeToString())
    return ["tfdet-data", "check", "--data=tfrecord:r.tfrecord"]


def palette(kind: str) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data.picture())).convert("P").save(file, kind)
    return file.getvalue()


def only_weights(folder: pathlib.Path) -> None:
    for path in (folder / "m").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("recipe.yaml", "best.weights.h5"):
            path.unlink()


FINE = {"code": 0, "says": "2 images, 2 boxes"}
COCO = [
    Case(
        "F69 COCO boxes as fractions",
        of_annotations(bbox=[0.1, 0.1, 0.3, 0.4]),
        says="all 2 boxes lie within the first pixel of their images: .* fractions; give pixels",
    ),
    Case("F69 image ids as text in the annotations", of_annotations(image_id=str), **FINE),
    Case("F69 image ids as 1.0 in the annotations", of_annotations(image_id=float), **FINE),
    Case("F69 class ids as text in the annotations", of_annotations(category_id=str), **FINE),
    Case(
        "F67 COCO without boxes, as for panoptic segmentation",
        of_annotations(bbox=None),
        code=0,
        says="2 x box whose coordinates are not four finite numbers: box left out",
    ),
    Case(
        "F76 a folder where annotations are expected",
        lambda folder: (data.coco(folder), ["tfdet-data", "check", "--data=coco:i:i"])[1],
        says="COCO data set i: looked for the JSON file in it, .* found none",
    ),
    Case("F80 F14 a colon in both paths, as in C:/data", with_a_colon, **FINE),
]
VOC = [
    Case("F60 a split that lists files", voc(split="a.jpg\nAnnotations/b.xml\n"), **FINE),
    Case("F60 a split with paths of Windows", voc(split="JPEGImages\\a.jpg\r\nb\r\n"), **FINE),
    Case(
        "F74 VOC boxes as fractions",
        voc(
            change=lambda folder: [
                path.write_text(path.read_text().replace(">5<", ">.1<").replace(">20<", ">.9<"))
                for path in (folder / "Annotations").iterdir()
            ]
        ),
        says="all 2 boxes lie within the first pixel of their images",
    ),
    Case(
        "F74 a polygon in place of a box",
        voc(change=box_of_a("<polygon><x1>1</x1></polygon>")),
        code=0,
        says="1 x box whose coordinates are not four finite numbers",
    ),
]
YOLO = [
    Case(
        "F78 a BMP with a palette, whose indices would be shades of grey",
        data.yolo(more=lambda folder: (folder / "images/z.bmp").write_bytes(palette("BMP"))),
        code=0,
        says=("2 images, 1 box", "1 x BMP with a palette: image left out; save it as PNG"),
    ),
    Case(
        "F78 a PNG with a palette",
        data.yolo(more=lambda folder: (folder / "images/z.png").write_bytes(palette("PNG"))),
        code=0,
        says="3 images, 1 box",
    ),
    Case(
        "F70 labels in pixels",
        data.yolo(label=b"0 30 20 10 10\n1 40 20 8 8\n"),
        code=0,
        says="2 x coordinates that are no fractions of the image: line left out",
    ),
    Case(
        "F72 detections with their scores as labels",
        data.yolo(label=b"0 .5 .5 .2 .2 0.93\n"),
        code=0,
        says=(
            "1 x annotation line cannot be read: line left out; expected a class index and x y "
            "width height, or the points of an outline"
        ),
    ),
    Case(
        "F59 a list with paths of Windows",
        listed(b".\\images\\x.jpg\r\nimages\\y.jpg\r\n"),
        code=0,
        says="2 images, 1 box",
    ),
    Case(
        "F59 a data.yaml with paths of Windows",
        data.yolo("path: .\\\ntrain: .\\images\nnames: [cat, dog]\n"),
        code=0,
        says="2 images, 1 box",
    ),
    Case(
        "F63 what macOS writes beside the files",
        data.yolo(more=apple_doubles),
        code=0,
        says="2 images, 1 box",
        never=("not a readable image",),
    ),
]
RECORDS = [
    Case("F80 records in a folder with brackets", records_in("[x]", "[x]/r-*"), 0, "6 images"),
    Case(
        "F75 the folder of the records",
        records_in("d", "d"),
        says=f"'d' is a folder; give a pattern, such as d{os.sep}",
    ),
    Case(
        "F75 records of other keys",
        other_records,
        says=r"record without image/encoded.* \(r.tfrecord at byte 12: its keys are jpeg\)",
    ),
]

TRAINING = [
    Case(
        "F88 the state was deleted to save room",
        training.after(lambda folder: shutil.rmtree(folder / "m" / "state")),
        says="m has the weights of a training but no state to resume from.* --pretrained=m",
        keeps=("m/best.weights.h5", "m/last.weights.h5"),
    ),
    Case(
        "F88 only recipe and weights were copied",
        training.after(only_weights),
        says="m has the weights of a training but no state to resume from",
        keeps=("m/best.weights.h5", "m/recipe.yaml"),
        leaves=(),
    ),
]


def saved_model(make):
    """`tfdet-infer` with what `make` puts into the folder and calls a SavedModel."""

    def of(folder: pathlib.Path) -> list[str]:
        serving.photo(folder / "a.png")
        name = make(folder)
        return ["tfdet-infer", f"--saved_model={name}", "--input=a.png", "--output_dir=out"]

    return of


def versions(folder: pathlib.Path) -> str:
    for number in (1, 2):
        (folder / f"served/{number}").mkdir(parents=True)
        (folder / f"served/{number}/saved_model.pb").touch()
    return "served"


SERVING = [
    Case(
        "F92 the folder of the versions of a SavedModel",
        saved_model(versions),
        says="served is not a SavedModel: .* give one of those in it, such as served/2",
    ),
    Case(
        "F92 the file in a SavedModel",
        saved_model(lambda folder: f"{versions(folder)}/1/saved_model.pb"),
        says="it is a file; give its folder, served/1",
    ),
    Case(
        "F92 a training folder as a SavedModel",
        saved_model(lambda folder: serving.trained()),
        says="it is a training folder; give it as --model_dir",
    ),
    Case(
        "F78 a BMP with a palette to detect in",
        lambda folder: (
            (folder / "a.bmp").write_bytes(palette("BMP")),
            serving.infer("--input=a.bmp"),
        )[1],
        says=r"left out a.bmp: palette image \(BMP with a palette; save it as PNG\)",
    ),
    Case(
        "F95 an export named like a file of another format",
        lambda folder: ["tfdet-export", f"--model_dir={serving.trained()}", "--output=model.onnx"],
        says="an export is a folder; model.onnx is named like a file.* Give a name without .onnx",
        leaves=(),
    ),
]


CASES = [*SERVING, *TRAINING, *COCO, *VOC, *YOLO, *RECORDS]
