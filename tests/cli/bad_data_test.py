"""Damaged data sets and images, one by one, through the commands that meet them.

What cannot be used is refused with one sentence; what is damaged in part is counted and left out.
"""

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data import sources

NAMES = ("circle", "square", "triangle", "star", "cross")
TINY = "model.name=efficientdet-test,train.batch_size=2,train.num_epochs=1,train.warmup_epochs=0"


# Data sets


@pytest.mark.parametrize(
    ("spec", "piece"),
    [
        ("shpaes", "expected one of shapes[:train|val[:COUNT]], coco:ANNOTATIONS.json[:IMAGE_DIR]"),
        ("/some/path", "expected one of shapes"),
        ("shapes:tset", "expected shapes:train or shapes:val"),
        ("shapes:val:0", "expected 1 to 100000 images"),
        ("shapes:val:x", "got the count 'x'"),
        ("coco:a.json", "COCO annotations: there is no file 'a.json'"),
        ("coco::", "expected coco:ANNOTATIONS.json[:IMAGE_DIR]"),
        ("coco:/no.json:/tmp", "COCO annotations: there is no file '/no.json'"),
        ("voc:/nowhere:train", "VOC data set: there is no directory '/nowhere'"),
        ("yolo:/no.yaml:train", "YOLO data set: there is no file '/no.yaml'"),
        ("tfrecord:/no/*.tfrecord", "no file matches '/no/*.tfrecord'"),
    ],
)
def test_wrong_data_strings(refused, spec, piece):
    refused("data", ("check", f"--data={spec}"), piece)


def _save_picture(path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((60, 40), Image.Resampling.BICUBIC).save(path)


def _coco_content(names=("a.jpg", "b.jpg")) -> dict:
    """Two images of 60 x 40 with a box each."""
    images = [
        {"id": i, "file_name": name, "height": 40, "width": 60} for i, name in enumerate(names, 1)
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": i, "bbox": [5, 5, 20, 20]}
        for i in range(1, len(names) + 1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    return {"images": images, "annotations": boxes, "categories": categories}


@pytest.fixture
def coco(tmp_path):
    """Writes COCO files; gives the --data string."""

    def write(content) -> str:
        for name in ("a.jpg", "b.jpg"):
            if not (tmp_path / "images" / name).exists():
                _save_picture(tmp_path / "images" / name)
        path = tmp_path / "instances.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return f"coco:{path}:{tmp_path / 'images'}"

    return write


def _with(list_name: str, **keys) -> dict:
    content = _coco_content()
    content[list_name] = [{**row, **keys} for row in content[list_name]]
    return content


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (b"{", "instances.json is not a JSON file"),
        (b"", "instances.json is not a JSON file"),
        (bytes(range(256)), "instances.json is not a text file in UTF-8"),
        (b"[" * 100_000, "instances.json is not a JSON file"),
        ([], "instances.json has no list 'images'"),
        ({**_coco_content(), "images": {}}, "instances.json has no list 'images'"),
        ({**_coco_content(), "images": []}, "has no usable image"),
        ({**_coco_content(), "categories": []}, "has no categories"),
        (_with("categories", id=1), "two categories have the same id"),
        (
            _with("categories", id="x"),
            "id in 'categories' must be a whole number of 64 bits, got 'x'",
        ),
        (_with("categories", name="a"), "two classes named 'a'"),
        (
            _with("images", id=[1]),
            "id in 'images' must be a whole number of 64 bits or text, got [1]",
        ),
        (_with("images", file_name=None), "file_name in 'images' must be text, got None"),
        (_with("images", file_name="../x.jpg"), "file name leads out of the data set"),
        (_with("images", file_name="/etc/passwd"), "file name leads out of the data set"),
        (_with("images", file_name="gone.jpg"), "image file is missing"),
    ],
)
def test_coco_files_that_cannot_be_used(refused, coco, content, piece):
    refused("data", ("check", f"--data={coco(content)}"), piece)


@pytest.mark.parametrize(
    ("content", "kind", "count"),
    [
        (_with("annotations", bbox=[float("nan")] * 4), "box_not_finite", 2),
        (_with("annotations", bbox="1,2,3,4"), "box_not_finite", 2),
        (_with("annotations", bbox=[10**400, 1, 2, 3]), "box_not_finite", 2),
        (_with("annotations", bbox=[5, 5, 0, 9]), "box_no_area", 2),
        (_with("annotations", bbox=[50, 5, 90, 9]), "box_outside", 2),
        (_with("annotations", category_id=77), "unknown_class", 2),
        (_with("annotations", category_id=[1]), "unknown_class", 2),
        (_with("annotations", image_id=[1]), "unknown_image", 2),
        (_with("annotations", id=1), "duplicate_id", 1),
        (_with("annotations", bbox=None), "box_not_finite", 2),
        (_with("images", height=20), "size_mismatch", 2),
        (_with("images", id=1), "duplicate_id", 1),
        ({**_coco_content(), "annotations": []}, "empty_image", 2),
        ({**_coco_content(("a.jpg", "c.jpg"))}, "missing_image", 1),
    ],
)
def test_damage_in_coco_files_is_counted(run, coco, content, kind, count):
    code, output, _ = run("data", "check", f"--data={coco(content)}", "--json")
    assert code == 0
    assert json.loads(output)["problems"][kind]["count"] == count


@pytest.mark.parametrize("size", ["tall", float("nan"), float("inf"), 10**12, 10**400, -1])
def test_impossible_sizes_are_read_from_the_image(run, coco, size):
    code, output, _ = run("data", "check", f"--data={coco(_with('images', height=size))}", "--json")
    assert code == 0
    assert json.loads(output)["damaged"] == 0


_VOC = (
    "<annotation>{}<object><name>star</name><bndbox><xmin>5</xmin><ymin>5</ymin>"
    "<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
)
_BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'


@pytest.fixture
def voc(tmp_path):
    """A VOC data set of two images; gives its directory."""
    for name in ("a", "b"):
        _save_picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(_VOC.format(""))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content", "piece"),
    [
        ("ImageSets/Main/train.txt", None, "no split 'train': expected"),
        ("ImageSets/Main/train.txt", "", "train.txt lists no image"),
        ("ImageSets/Main/train.txt", b"\xff\xfe", "train.txt is not a text file in UTF-8"),
        ("ImageSets/Main/train.txt", "../../x\n", "file name leads out of the data set"),
        ("ImageSets/Main/train.txt", "nix\n", "nix.xml: No such file"),
        ("classes.txt", "\n", "classes.txt names no class"),
        ("classes.txt", b"\xff", "classes.txt is not a text file in UTF-8"),
        ("classes.txt", "star\nstar\n", "two classes named 'star'"),
    ],
)
def test_voc_directories_that_cannot_be_used(refused, voc, file, content, piece):
    if content is None:
        (voc / file).rename(voc / "ImageSets/Main/dev.txt")
    else:
        (voc / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("data", ("check", f"--data=voc:{voc}:train"), piece)


@pytest.mark.parametrize("folder", ["Annotations", "JPEGImages"])
def test_voc_directory_without_one_of_its_folders(refused, voc, folder):
    shutil.rmtree(voc / folder)
    refused("data", ("check", f"--data=voc:{voc}:train"), folder)


@pytest.mark.parametrize(
    ("file", "content", "kind"),
    [
        ("Annotations/a.xml", None, "unreadable_annotation"),
        ("Annotations/a.xml", "<annotation><object>", "unreadable_annotation"),
        ("Annotations/a.xml", _BOMB, "unreadable_annotation"),
        ("classes.txt", "circle\n", "unknown_class"),
        ("JPEGImages/a.jpg", None, "missing_image"),
    ],
)
def test_damage_in_voc_directories_is_counted(run, voc, file, content, kind):
    (voc / file).unlink(missing_ok=True)
    if content is not None:
        (voc / file).write_text(content)
    code, output, _ = run("data", "check", f"--data=voc:{voc}:train", "--json")
    assert code == 0
    assert json.loads(output)["problems"][kind]["count"] >= 1


def test_voc_file_name_that_leads_out_of_the_data_set(run, voc):
    (voc / "JPEGImages/a.jpg").unlink()
    outside = "<filename>../../../etc/passwd</filename>"
    (voc / "Annotations/a.xml").write_text(_VOC.format(outside))
    code, output, _ = run("data", "check", f"--data=voc:{voc}:train", "--json")
    assert (code, json.loads(output)["images"]) == (0, 1)
    assert json.loads(output)["problems"]["unsafe_path"]["count"] == 1


@pytest.fixture
def yolo(tmp_path):
    """A YOLO data set of one image; gives its directory."""
    _save_picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [ant, bee]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        ("train: images\n", "expected `names` to be a list or a dict"),
        ("train: images\nnames: 3\n", "expected `names` to be a list or a dict"),
        ("train: images\nnames: {a: 1}\n", "whole numbers as keys"),
        ("train: images\nnames: [a, a]\n", "two classes named 'a'"),
        ("names: [", "data.yaml is not YAML"),
        ("", "data.yaml has no keys"),
        ("val: images\nnames: [a]\n", "has no split 'train'; it has val"),
        ("train: nowhere\nnames: [a]\n", "nowhere'"),
    ],
)
def test_yolo_files_that_cannot_be_used(refused, yolo, content, piece):
    (yolo / "data.yaml").write_text(content)
    refused("data", ("check", f"--data=yolo:{yolo}/data.yaml:train"), "data.yaml", piece)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("9 0.5 0.5 0.2 0.2", "unknown_class"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0.5 0.5 0.5 0.2 0.2", "unreadable_line"),
        ("0 0.5 0.5", "unreadable_line"),
        ("ant 0.5 0.5 0.2 0.2", "unreadable_line"),
        ("0 nan 0.5 0.2 0.2", "box_not_finite"),
        ("0 0.5 0.5 0 0.2", "box_no_area"),
        ("0 0.5 0.5 1.5 1.5", "box_outside"),
        ("0 80 80 40 40", "not_fractions"),
    ],
)
def test_damage_in_yolo_labels_is_counted(run, yolo, line, kind):
    (yolo / "labels" / "a.txt").write_text(line)
    code, output, _ = run("data", "check", f"--data=yolo:{yolo}/data.yaml:train", "--json")
    assert code == 0
    assert json.loads(output)["problems"][kind]["count"] == 1


@pytest.fixture
def records(run, tmp_path):
    """A record file of three pictures."""
    assert run("data", "convert", "shapes:val:3", f"--output={tmp_path}/r")[0] == 0
    return tmp_path / "r-00000-of-00001.tfrecord"


def test_records_that_end_early_lose_their_end_only(run, records):
    content = records.read_bytes()
    records.write_bytes(content[: len(content) - 100])
    code, output, _ = run("data", "check", f"--data=tfrecord:{records}", "--json")
    assert (code, json.loads(output)["images"]) == (0, 2)
    assert json.loads(output)["problems"]["truncated_record"]["count"] == 1


def test_records_that_cannot_be_used(refused, records):
    content = records.read_bytes()
    example = tf.train.Example(
        features=tf.train.Features(
            feature={"picture": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))}
        )
    )
    check = ("check", f"--data=tfrecord:{records}")
    for damaged, piece in (
        (b"", "holds no readable record: the files are empty"),
        (b"this is a text and no record file", "a length whose checksum is wrong"),
        (b"\x1f\x8b" + content, "is compressed; unpack it"),
    ):
        records.write_bytes(damaged)
        refused("data", check, piece)
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(example.SerializeToString())
    refused("data", check, "holds no readable record: 1 x ", "its keys are picture")
    records.write_bytes(content)
    (records.parent / "r-labels.json").write_text("{")
    refused("data", check, "r-labels.json is not a JSON file")
    refused("data", ("check", f"--data=tfrecord:{records}:/no.json"), "no file '/no.json'")


# Images


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(bytes(1000))),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _encoded(mode: str, kind: str, **options) -> bytes:
    file = io.BytesIO()
    pixels = np.full((40, 60, 3), 128, np.uint8)
    if mode == "16-bit":
        image = Image.fromarray(np.full((40, 60), 30000, np.uint16))
    else:
        image = Image.fromarray(pixels).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded("RGB", "JPEG", exif=exif)


GOOD = {
    "gray.png": (_encoded("L", "PNG"), [40, 60]),
    "rgba.png": (_encoded("RGBA", "PNG"), [40, 60]),
    "palette.png": (_encoded("P", "PNG"), [40, 60]),
    "cmyk.jpg": (_encoded("CMYK", "JPEG"), [40, 60]),
    "16bit.png": (_encoded("16-bit", "PNG"), [40, 60]),
    "animated.gif": (
        _encoded("RGB", "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
        [40, 60],
    ),
    "rotated.jpg": (_rotated(), [60, 40]),
    "named_wrongly.jpg": (_encoded("RGB", "PNG"), [40, 60]),
}
_JPEG = _encoded("RGB", "JPEG")
UNREADABLE = "unreadable image (expected JPEG, PNG, GIF, BMP, WEBP)"
BROKEN = {
    "zero.jpg": (b"", UNREADABLE),
    "text.jpg": (b"not an image", UNREADABLE),
    "tiff.jpg": (_encoded("RGB", "TIFF"), UNREADABLE),
    "cut.jpg": (_JPEG[: len(_JPEG) - 20], "truncated image"),
    "cut.png": (_encoded("RGB", "PNG")[:-30], "truncated image"),
    "claims.png": (_png_that_claims(60000, 60000), "oversized image"),
    "claims_less.png": (_png_that_claims(9000, 9000), "truncated image"),
}


@pytest.fixture
def pictures(tmp_path):
    """A folder of good and broken images."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, (content, _) in {**GOOD, **BROKEN}.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return folder


def test_odd_images_are_read_and_broken_ones_named(run, pictures, model_dir, tmp_path):
    output_dir = tmp_path / "found"
    argv = (f"--model_dir={model_dir}", f"--input={pictures}", f"--output_dir={output_dir}")
    code, _, errors = run("infer", *argv)
    assert code == 1
    left_out = {
        Path(line.split(": ")[1].removeprefix("left out ")).name: line.rsplit(": ", 1)[1]
        for line in errors
        if "left out" in line
    }
    assert left_out == {name: word for name, (_, word) in BROKEN.items()}
    results = json.loads((output_dir / "detections.json").read_text())
    sizes = {Path(result["file"]).name: result["size"] for result in results}
    assert sizes == {name: size for name, (_, size) in GOOD.items()}


def test_only_broken_images(run, pictures, model_dir, tmp_path):
    argv = (f"--model_dir={model_dir}", f"--input={pictures}/zero.jpg")
    code, output, errors = run("infer", *argv, f"--output_dir={tmp_path}/found")
    assert code == 1
    assert "0 detections in 0 images" in output
    assert "zero.jpg: unreadable image" in errors[-1]


def test_check_counts_broken_images(run, coco, tmp_path):
    content = _coco_content(tuple(BROKEN))
    for box in content["annotations"]:
        box["category_id"] = 1
    (tmp_path / "images").mkdir()
    for name, (encoded, _) in BROKEN.items():
        (tmp_path / "images" / name).write_bytes(encoded)
    code, output, _ = run("data", "check", f"--data={coco(content)}", "--json")
    assert code == 0
    counts = {kind: entry["count"] for kind, entry in json.loads(output)["problems"].items()}
    assert counts == {"unreadable_image": 3, "truncated_image": 3, "oversized_image": 1}


@pytest.fixture
def unreadable(coco, tmp_path):
    """A data set of which no image can be decoded."""
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(b"")
    return coco(_coco_content())


def test_data_without_a_readable_image(refused, unreadable, model_dir, tmp_path):
    piece = "has no readable image"
    new = tmp_path / "model"
    refused("eval", (f"--model_dir={model_dir}", f"--data={unreadable}"), piece)
    train = (f"--hparams={TINY}", f"--model_dir={new}")
    refused("train", (*train, f"--data={unreadable}"), piece)
    refused("train", (*train, "--data=shapes:train:4", f"--val_data={unreadable}"), piece)
    assert not new.exists()
    refused("data", ("convert", unreadable, f"--output={tmp_path}/records/r"), piece)
    assert not list((tmp_path / "records").iterdir())


def test_data_without_boxes(refused, coco, model_dir, tmp_path):
    spec = coco({**_coco_content(), "annotations": []})
    refused("eval", (f"--model_dir={model_dir}", f"--data={spec}"), "has no boxes at all")
    new = tmp_path / "model"
    argv = (f"--hparams={TINY}", f"--model_dir={new}", f"--data={spec}")
    refused("train", argv, "has no boxes at all")
    assert not new.exists()


def test_validation_data_of_other_classes(refused, coco, tmp_path):
    content = _coco_content()
    content["categories"] = [{"id": i, "name": f"animal {i}"} for i in (1, 2)]
    argv = (f"--hparams={TINY}", f"--model_dir={tmp_path}/m", "--data=shapes:train:4")
    refused("train", (*argv, f"--val_data={coco(content)}"), "expected classes (circle, square")
    assert not (tmp_path / "m").exists()


def test_another_order_of_classes_gives_the_same_numbers(run, model_dir, tmp_path):
    assert run("data", "make", "shapes", "--split=val", "--count=4", f"--output={tmp_path}")[0] == 0
    path = tmp_path / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for row in content["categories"]:
        row["id"] = 60 - 10 * row["id"]
    for row in content["annotations"]:
        row["category_id"] = 60 - 10 * row["category_id"]
    path.write_text(json.dumps(content))
    found = []
    for i, data in enumerate(("shapes:val:4", f"coco:{path}:{tmp_path / 'val'}")):
        argv = (f"--json_out={tmp_path}/{i}.json", f"--detections_out={tmp_path}/{i}.boxes.json")
        assert run("eval", f"--model_dir={model_dir}", f"--data={data}", *argv)[0] == 0
        found.append(json.loads((tmp_path / f"{i}.json").read_text())["metrics"])
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    ids = {row["category_id"] for row in json.loads((tmp_path / "1.boxes.json").read_text())}
    assert ids <= {10, 20, 30, 40, 50}


@pytest.mark.slow
def test_training_goes_on_around_damage(run, coco, tmp_path):
    content = _coco_content(("a.jpg", "b.jpg", *BROKEN))
    (tmp_path / "images").mkdir()
    for name, (encoded, _) in BROKEN.items():
        (tmp_path / "images" / name).write_bytes(encoded)
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 0]})
    spec = coco(content)
    argv = (f"--hparams={TINY},eval.pictures=9", f"--model_dir={tmp_path}/m")
    code, _, errors = run("train", *argv, f"--data={spec}", f"--val_data={spec}")
    assert code == 0
    for name in ("cut.jpg", "cut.png", "claims_less.png"):
        assert sum(name in line and "truncated" in line for line in errors) <= 2  # per data set
    assert (tmp_path / "m" / "best.weights.h5").is_file()
    assert sources.open_dataset(spec).problems.counts["box_no_area"] == 1
