"""Tiny data sets in all formats, and pictures with painted rectangles."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASS_NAMES = ("ant", "bee", "cat")

# (name, (height, width), [(label, x0, y0, x1, y1), ...])
SCENES = (
    ("a1", (40, 60), [(0, 3, 4, 20, 30), (2, 10.25, 11.5, 59, 39.75)]),
    ("b2", (50, 50), []),
    ("c3", (33, 71), [(1, 0, 0, 71, 33)]),
    ("d4", (64, 48), [(1, 7, 7, 30, 41.33), (1, 8.01, 20, 47, 63), (0, 1, 2, 3, 4)]),
)


def save_image(path: Path, size: tuple[int, int], seed: int = 0, **options) -> None:
    """A smooth random picture of a (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *size])
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path, **options)


def write_coco(root: Path, **changes) -> str:
    """The scenes in COCO's form; `changes` replace top-level lists. Gives the --data string."""
    images, annotations = [], []
    for k, (name, size, boxes) in enumerate(SCENES):
        save_image(root / "images" / f"{name}.jpg", size, k)
        image = {"id": 7 * k + 3, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]}
        images.append(image)
        for label, x0, y0, x1, y1 in boxes:
            bbox = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
            annotation = {"id": len(annotations) + 1, "image_id": image["id"], "bbox": bbox}
            annotations.append(annotation | {"category_id": 10 * label + 5, "iscrowd": 0})
    categories = [{"id": 10 * k + 5, "name": name} for k, name in enumerate(CLASS_NAMES)]
    content = {"images": images[::-1], "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content | changes))
    return f"coco:{root}/instances.json:{root}/images"


def voc_xml(size: tuple[int, int], boxes, extra: str = "") -> str:
    """A VOC annotation."""
    objects = "".join(
        f"<object><name>{CLASS_NAMES[label] if isinstance(label, int) else label}</name><bndbox>"
        f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, x0, y0, x1, y1 in boxes
    )
    sides = f"<width>{size[1]}</width><height>{size[0]}</height><depth>3</depth>"
    return f"<annotation>{extra}<size>{sides}</size>{objects}</annotation>"


def write_voc(root: Path) -> str:
    """The scenes in Pascal VOC's form; gives the --data string."""
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "Annotations").mkdir()
    for k, (name, size, boxes) in enumerate(SCENES):
        save_image(root / "JPEGImages" / f"{name}.jpg", size, k)
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(size, boxes))
    names = [name for name, _, _ in SCENES]
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names[::-1]) + "\n")
    return f"voc:{root}:train"


def write_yolo(root: Path, digits: int = 6) -> str:
    """The scenes in YOLO's form; gives the --data string."""
    (root / "labels" / "train").mkdir(parents=True)
    for k, (name, size, boxes) in enumerate(SCENES):
        save_image(root / "images" / "train" / f"{name}.jpg", size, k)
        height, width = size
        lines = []
        for label, x0, y0, x1, y1 in boxes:
            values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height)
            values += ((x1 - x0) / width, (y1 - y0) / height)
            lines.append(" ".join([str(label), *(f"{v:.{digits}f}" for v in values)]))
        if lines:
            (root / "labels" / "train" / f"{name}.txt").write_text("\n".join(lines))
    names = ", ".join(CLASS_NAMES)
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: [{names}]\n")
    return f"yolo:{root}/data.yaml:train"


def paint(size, box, background: int = 0) -> np.ndarray:
    """A uint8 picture with one white rectangle (whole pixels, xyxy) on a dark ground."""
    image = np.full((*size, 3), background, np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


def random_rectangle(seed: int, size) -> tuple[int, int, int, int]:
    """A rectangle with whole sides of at least 6 pixels."""
    rng = np.random.default_rng(seed)
    width, height = (int(rng.integers(6, side // 2)) for side in size[::-1])
    x, y = int(rng.integers(0, size[1] - width)), int(rng.integers(0, size[0] - height))
    return x, y, x + width, y + height


def painted_extent(image, threshold: float = 200.0) -> np.ndarray | None:
    """xyxy of the bright pixels, None where there are none."""
    rows, columns = np.nonzero(np.asarray(image).mean(axis=-1) > threshold)
    if len(rows) == 0:
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


class _Scenes:
    """The helpers above, for tests: pytest's importlib mode has no package to import them from."""

    names = CLASS_NAMES
    scenes = SCENES
    save_image = staticmethod(save_image)
    write_coco = staticmethod(write_coco)
    write_voc = staticmethod(write_voc)
    write_yolo = staticmethod(write_yolo)
    voc_xml = staticmethod(voc_xml)


class _Painted:
    paint = staticmethod(paint)
    random_rectangle = staticmethod(random_rectangle)
    extent = staticmethod(painted_extent)


@pytest.fixture(scope="session")
def scenes() -> type[_Scenes]:
    """Writers of one tiny data set in every format."""
    return _Scenes


@pytest.fixture(scope="session")
def painted() -> type[_Painted]:
    """Pictures with one rectangle and what can be seen of it."""
    return _Painted
