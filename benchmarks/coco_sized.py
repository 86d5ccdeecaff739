"""A made-up data set as large as COCO's train2017, whose images are links to one picture."""

import json
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from tfdet.data import sources
from tfdet.data.dataset import DetectionDataset

HEIGHT, WIDTH = 480, 640
IMAGES, BOXES, CLASSES = 118_287, 860_001, 80

# As long as COCO's own, so that the file has its size.
_URL = "http://images.example.org/train/{}"
_CROWDS = 85  # one box in so many
_OBJECTS = 4096  # different ones


def write(folder: pathlib.Path, images: int = IMAGES, boxes: int = BOXES, quality: int = 90) -> str:
    """Writes annotations and links; gives the data set as `--data` has it.

    Args:
        folder: for `instances.json`, `images/` and the one picture.
        images, boxes: how many there are.
        quality: of the JPEG, which decides its size.
    """
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    _write_picture(folder / "picture.jpg", rng, quality)
    numbers = rng.permutation(5 * images)[:images]  # neither in order nor without gaps
    with open(folder / "instances.json", "w") as file:
        file.write('{"info": {"description": "as large as COCO"}, "licenses": [], "images": [')
        for k, number in enumerate(numbers.tolist()):
            name = f"{number:012d}.jpg"
            link = folder / "images" / name
            if not link.is_symlink():
                link.symlink_to("../picture.jpg")
            file.write((", " if k else "") + json.dumps(_image(number, name)))
        file.write('], "annotations": [')
        owners = numbers[rng.integers(0, images, boxes)].tolist()
        objects = [json.dumps(_object(k, rng))[1:] for k in range(_OBJECTS)]
        choices = rng.integers(0, _OBJECTS, boxes).tolist()
        for k, (owner, choice) in enumerate(zip(owners, choices, strict=True)):
            start = ", {" if k else "{"
            file.write(f'{start}"image_id": {owner}, "id": {k + 1}, {objects[choice]}')
        categories = [{"id": k + 1, "name": f"class {k + 1}"} for k in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return f"coco:{folder}/instances.json:{folder}/images"


def write_records(folder: pathlib.Path, spec: str, shards: int) -> str:
    """Writes the same set as TFRecord files; gives the data set as `--data` has it.

    `tfdet-data convert` does so too, but decodes each image before, which takes ten minutes.
    """
    dataset = sources.open_dataset(spec)
    encoded = (folder / "picture.jpg").read_bytes()
    (folder / "records").mkdir(exist_ok=True)
    for shard, part in enumerate(np.array_split(np.arange(len(dataset)), shards)):
        path = folder / "records" / f"train-{shard:05d}-of-{shards:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for i in part.tolist():
                writer.write(_record(dataset, i, encoded))
    classes = [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)]
    (folder / "records" / "train-labels.json").write_text(json.dumps({"classes": classes}))
    return f"tfrecord:{folder}/records/train-*.tfrecord"


def _record(dataset: DetectionDataset, i: int, encoded: bytes) -> bytes:
    rows = dataset.rows(i)
    boxes = dataset.boxes[rows] / np.array([WIDTH, HEIGHT] * 2)
    names = [dataset.class_names[label].encode() for label in dataset.labels[rows]]
    example = tf.train.Example()
    feature = example.features.feature
    feature["image/encoded"].bytes_list.value.append(encoded)
    feature["image/filename"].bytes_list.value.append(str(dataset.names[i]).encode())
    feature["image/source_id"].bytes_list.value.append(str(dataset.image_ids[i]).encode())
    feature["image/height"].int64_list.value.append(HEIGHT)
    feature["image/width"].int64_list.value.append(WIDTH)
    for k, side in enumerate(("xmin", "ymin", "xmax", "ymax")):
        feature[f"image/object/bbox/{side}"].float_list.value.extend(boxes[:, k])
    feature["image/object/class/label"].int64_list.value.extend(dataset.labels[rows] + 1)
    feature["image/object/class/text"].bytes_list.value.extend(names)
    feature["image/object/area"].float_list.value.extend(dataset.areas[rows])
    feature["image/object/is_crowd"].int64_list.value.extend(map(int, dataset.is_crowd[rows]))
    return example.SerializeToString()


def _write_picture(path: pathlib.Path, rng: np.random.Generator, quality: int) -> None:
    coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
    grain = rng.normal(0, 6, smooth.shape).astype(np.int16)
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=quality)


def _image(number: int, name: str) -> dict:
    return {
        "license": 3,
        "file_name": name,
        "coco_url": _URL.format(name),
        "height": HEIGHT,
        "width": WIDTH,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": _URL.format(f"farm9/8186/{number:012d}_6f3b_z.jpg"),
        "id": number,
    }


def _object(number: int, rng: np.random.Generator) -> dict:
    """All of an annotation but its id and that of its image."""
    width, height = rng.uniform(8, 200, 2)
    x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
    if number % _CROWDS:
        angles = np.linspace(0, 2 * np.pi, max(3, int(rng.exponential(17.7))), endpoint=False)
        corners = np.stack([np.cos(angles) * width + 2 * x, np.sin(angles) * height + 2 * y], 1)
        points = (corners + np.array([width, height])) / 2
        segmentation: list | dict = [np.round(points, 2).ravel().tolist()]
    else:
        first, filled = int(y) * WIDTH, 4 * int(height)
        segmentation = {"size": [HEIGHT, WIDTH], "counts": [first, filled]}
        segmentation["counts"].append(HEIGHT * WIDTH - first - filled)
    return {
        "segmentation": segmentation,
        "area": float(round(width * height, 4)),
        "iscrowd": int(number % _CROWDS == 0),
        "bbox": [round(float(value), 2) for value in (x, y, width, height)],
        "category_id": int(rng.integers(1, CLASSES + 1)),
    }
