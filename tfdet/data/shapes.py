"""The built-in data set: pictures of shapes, graded from a few large clean ones to clutter.

Nothing is downloaded or stored: image i of a split follows from the seed (0), the split and i. The
layout (which shape where) is computed when the set is opened, the picture when it is asked for.
"""

import dataclasses
import functools
import math

import numpy as np

from tfdet.data.builder import DatasetBuilder
from tfdet.data.dataset import DetectionDataset
from tfdet.data.shapes_drawing import draw
from tfdet.errors import UserError
from tfdet.limits import MAX_SHAPES_IMAGES

CLASS_NAMES = ("circle", "square", "triangle", "star", "cross")
IMAGE_SIZE = 256
SPLIT_SIZES = {"train": 2000, "val": 200}

_STREAMS = {"train": 1, "val": 2}  # first words of the random streams: the splits never overlap


@dataclasses.dataclass(frozen=True)
class Shape:
    """One shape: its class, its outline float64 [n, 2] of (x, y) in pixels, and its colour."""

    label: int
    outline: np.ndarray
    colour: tuple[int, int, int]

    @property
    def box(self) -> np.ndarray:
        """float64 [4] xyxy of the part inside the image, to a hundredth of a pixel."""
        corners = np.concatenate([self.outline.min(axis=0), self.outline.max(axis=0)])
        return np.clip(np.round(corners, 2), 0, IMAGE_SIZE)


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a picture shows: its difficulty in [0, 1) and the shapes, the farthest one first."""

    difficulty: float
    shapes: tuple[Shape, ...]


def open_shapes(split: str = "train", count: int | None = None) -> DetectionDataset:
    """The built-in data set: 256 x 256 PNG pictures with outlines of every shape.

    Args:
        split: "train" (2000 images) or "val" (200).
        count: another number of images.
    """
    if split not in SPLIT_SIZES:
        raise UserError(f"expected shapes:train or shapes:val, got shapes:{split}")
    count = SPLIT_SIZES[split] if count is None else count
    if not 1 <= count <= MAX_SHAPES_IMAGES:
        raise UserError(f"expected 1 to {MAX_SHAPES_IMAGES} images, got shapes:{split}:{count}")
    builder = DatasetBuilder(f"shapes:{split}", CLASS_NAMES)
    for i in range(count):
        picture = layout(split, i)
        shapes = picture.shapes
        builder.add_image(
            image_id=i + 1,
            file_name=f"{split}_{i:06d}.png",
            file=f"{split}_{i:06d}.png",
            size=(IMAGE_SIZE, IMAGE_SIZE),
            boxes=[shape.box for shape in shapes],
            labels=[shape.label for shape in shapes],
            segmentations=[[np.clip(s.outline, 0, IMAGE_SIZE).ravel()] for s in shapes],
            span=(0, 0),
            difficulty=picture.difficulty,
        )
    # Kept encoded after the first use: 2000 pictures take about 100 MB, drawing one takes 5 ms.
    render = functools.lru_cache(maxsize=None)(functools.partial(_render, split))
    dataset = builder.build(render)  # in the order of i, which is that of the names
    return dataclasses.replace(dataset, spans=None)


def _render(split: str, image_id: int) -> bytes:
    i = image_id - 1
    return draw(layout(split, i), IMAGE_SIZE, _generator(split, i, stream=1))


def layout(split: str, i: int) -> Picture:
    """The layout of picture i of a split.

    Difficulty grows from 0 to 1: from one to three large shapes on a calm ground to about ten small
    ones that overlap, stick out of the picture and lie among clutter. Half of the pictures have a
    difficulty below 0.3. Diameters run from 190 to 14 pixels, more than three octaves.
    """
    rng = _generator(split, i, stream=0)
    difficulty = rng.random() ** 1.7
    num_shapes = 1 + rng.binomial(2, 0.4) + rng.binomial(8, 0.75 * difficulty)
    shapes: list[Shape] = []
    for _ in range(num_shapes):
        for _attempt in range(20):
            shape = _random_shape(rng, difficulty)
            if _is_visible(shape, shapes, difficulty):
                shapes.append(shape)
                break
    return Picture(difficulty, tuple(shapes))


def _generator(split: str, i: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([_STREAMS[split], i, stream])


def _random_shape(rng: np.random.Generator, difficulty: float) -> Shape:
    label = int(rng.integers(len(CLASS_NAMES)))
    largest = 190 * (1 - difficulty) + 60 * difficulty
    smallest = 56 * (1 - difficulty) + 14 * difficulty
    radius = 0.5 * math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    turn = rng.uniform(-1, 1) * math.pi * (0.08 + 0.92 * difficulty)
    inset = radius * (1 - 0.5 * difficulty)  # hard pictures let shapes stick out by a quarter
    centre = rng.uniform(inset, IMAGE_SIZE - inset, size=2)
    sine, cosine = math.sin(turn), math.cos(turn)
    outline = _UNIT_OUTLINES[label] @ np.array([[cosine, sine], [-sine, cosine]])
    return Shape(label, centre + radius * outline, _random_colour(rng))


def _is_visible(shape: Shape, behind: list[Shape], difficulty: float) -> bool:
    """Whether a new shape leaves enough to see of each one behind it."""
    if not behind:
        return True
    box = shape.box
    others = np.stack([other.box for other in behind])
    overlap = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    covered = overlap.clip(0).prod(axis=1) / (others[:, 2:] - others[:, :2]).prod(axis=1)
    # A small shape inside a large one covers little of it but would be hard to tell from a part.
    hidden_in = overlap.clip(0).prod(axis=1) / (box[2:] - box[:2]).prod()
    return bool(covered.max() <= 0.05 + 0.35 * difficulty and hidden_in.max() <= 0.5)


def _random_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A saturated colour of any hue (HSV with saturation and value near 1)."""
    hue, saturation, value = rng.uniform([0, 0.6, 0.75], [6, 0.95, 1.0])
    channels = (np.array([5.0, 3.0, 1.0]) + hue) % 6
    strength = np.clip(np.minimum(channels, 4 - channels), 0, 1)
    return tuple(int(v) for v in 255 * value * (1 - saturation * strength))


def _polar(angles, radii) -> np.ndarray:
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _unit_outlines() -> tuple[np.ndarray, ...]:
    """Outline of each class around the origin, inside the unit circle, y pointing down."""

    def corners(n):
        return 2 * math.pi * np.arange(n) / n

    arm = 0.36  # half the width of the cross's arms
    quarter = np.array([(-arm, -1), (arm, -1), (arm, -arm)])
    clockwise = np.array([[0, 1], [-1, 0]])
    turns = [np.linalg.matrix_power(clockwise, k) for k in range(4)]
    cross = np.concatenate([quarter @ turn for turn in turns])
    return (
        _polar(corners(48), np.full(48, 0.95)),
        _polar(corners(4) + math.pi / 4, np.ones(4)),
        _polar(corners(3), np.ones(3)),
        _polar(corners(10), np.where(np.arange(10) % 2 == 0, 1.0, 0.42)),
        cross * 0.92,
    )


_UNIT_OUTLINES = _unit_outlines()
