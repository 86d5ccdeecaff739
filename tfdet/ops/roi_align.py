"""Features of regions of interest: RoIAlign (https://arxiv.org/abs/1703.06870) on a pyramid.

All levels lie in one canvas, so that every region is read by one operation of fixed shape, whatever
level it belongs to. On TensorFlow that is `crop_and_resize`, a native kernel on CPU and GPU with a
gradient; elsewhere it is `bilinear_sample`, which also says what is meant.
"""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops

from tfdet.ops import portable
from tfdet.ops.bilinear import bilinear_sample
from tfdet.ops.boxes import columns
from tfdet.ops.gather import take_rows
from tfdet.tensors import Tensor

Alignment = Literal["aligned", "torchvision"]  # see `aligned` of `roi_align`

# Far outside of any map; keeps arithmetic on wild boxes finite.
_FAR = 1e6


class PyramidCanvas(NamedTuple):
    """Where the maps of a pyramid lie in one map; arrays of one row per level.

    Attributes:
        origin: float32 [L, 2], (y, x) of each level's first cell.
        size: float32 [L, 2], (height, width) of each level.
        shape: (height, width) of the whole.
    """

    origin: np.ndarray
    size: np.ndarray
    shape: tuple[int, int]


class Grid(NamedTuple):
    """Equidistant points for R regions, in cells of the region's level.

    Attributes:
        image: [R] int32, position of the image in the batch.
        start: [R, 2] float32, (y, x) of the first point.
        step: [R, 2] float32, from a point to the next one.
        origin, size: [R, 2] float32, of the region's level, as in `PyramidCanvas`.
    """

    image: Any
    start: Any
    step: Any
    origin: Any
    size: Any


def region_levels(boxes_xyxy, min_level: int, max_level: int, canonical: float = 56.0):
    """The level of each box [..., 4] -> [...] int32: the finest for sides below 2 * `canonical`.

    floor(log2(sqrt(area) / canonical)) levels above the finest, within the given ones. 56 is
    FPN's (https://arxiv.org/abs/1612.03144): 224 pixels belong two levels above the finest.
    """
    left, top, right, bottom = columns(boxes_xyxy)
    side = ops.sqrt(ops.maximum(right - left, 0.0) * ops.maximum(bottom - top, 0.0))
    # 1e-6 as in mmdetection: a box of exactly a power of two belongs to the upper level.
    octave = ops.floor(ops.log2(side / canonical + 1e-6))
    return ops.cast(ops.clip(octave, 0, max_level - min_level), "int32") + min_level


def roi_align(
    maps: dict[str, Tensor],
    boxes_xyxy,
    levels,
    size: tuple[int, int] = (7, 7),
    sampling_ratio: int = 2,
    aligned: bool = True,
):
    """The mean of bilinear samples in each bin of each box.

    Args:
        maps: {"P2": [B, H, W, C], ...}, neighbouring levels, finest first; level l has stride 2^l.
        boxes_xyxy: [B, N, 4] float32 pixels. A bin's samples are in the middle of equal parts of
            it.
        levels: [B, N] int32, the level to read for each box.
        size: bins (height, width) of each box.
        sampling_ratio: samples of a bin along each axis. 0: as many as the bin has cells, rounded
            up, for each box by itself, which costs a loop.
        aligned: pixel centres are at halves. Otherwise they are at whole numbers, and boxes count
            as at least one cell high and wide: what Detectron began with and torchvision keeps.

    Returns:
        [B, N, *size, C] in the maps' dtype. A sample more than a cell outside of its map is 0, a
        nearer one is that of the border. Boxes that are not finite count as a point at 0.
    """
    canvas_map, canvas = _canvas(maps)
    grid, extent = _regions(canvas, boxes_xyxy, levels, int(next(iter(maps))[1:]), aligned)
    bins = extent / np.array(size, np.float32)  # [R, 2]
    if sampling_ratio:
        pooled = _fixed(canvas_map, grid, bins, size, sampling_ratio)
    else:
        pooled = _adaptive(canvas_map, grid, bins, size)
    shape = (-1, boxes_xyxy.shape[1], *size, canvas_map.shape[-1])
    return ops.reshape(ops.cast(pooled, canvas_map.dtype), shape)


def layout(sizes: list[tuple[int, int]]) -> PyramidCanvas:
    """The finest map on top and the others below it, side by side, each with a frame of a cell."""
    (top, wide), *below = [(height + 2, width + 2) for height, width in sizes]
    origin = [(1, 1)]
    left = 0
    for _, width in below:
        origin.append((top + 1, left + 1))
        left += width
    shape = (top + max((height for height, _ in below), default=0), max(wide, left))
    return PyramidCanvas(np.array(origin, np.float32), np.array(sizes, np.float32), shape)


def _canvas(maps: dict[str, Tensor]) -> tuple[Tensor, PyramidCanvas]:
    canvas = layout([tuple(x.shape[1:3]) for x in maps.values()])
    # A sample up to one cell outside reads the border: the frame repeats it.
    framed = [ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "symmetric") for x in maps.values()]
    first, below = framed[0], framed[1:]
    rows = [_widened(first, canvas.shape[1])]
    if below:
        height = canvas.shape[0] - first.shape[1]
        below = [ops.pad(x, ((0, 0), (0, height - x.shape[1]), (0, 0), (0, 0))) for x in below]
        rows.append(_widened(ops.concatenate(below, axis=2), canvas.shape[1]))
    return (ops.concatenate(rows, axis=1) if below else rows[0]), canvas


def _widened(x: Tensor, width: int) -> Any:
    missing = width - x.shape[2]
    return ops.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0))) if missing else x


def _regions(
    canvas: PyramidCanvas, boxes_xyxy, levels, min_level: int, aligned: bool
) -> tuple[Grid, Any]:
    """The corner of each of the R = B * N boxes as a grid, and its extent [R, 2] in cells."""
    count = boxes_xyxy.shape[1]
    boxes = ops.cast(ops.stop_gradient(boxes_xyxy), "float32")
    is_finite = ops.all(ops.isfinite(boxes), axis=-1, keepdims=True)
    boxes = ops.clip(ops.where(is_finite, boxes, 0.0), -_FAR, _FAR)
    boxes = ops.reshape(boxes, (-1, 4))
    row = ops.reshape(ops.cast(levels, "int32"), (-1,)) - min_level
    scales = 2.0 ** -np.arange(min_level, min_level + len(canvas.size), dtype=np.float32)
    corners = boxes * take_rows(scales, row)[:, None] - (0.5 if aligned else 0.0)
    left, top, right, bottom = columns(corners)
    start, end = ops.stack([top, left], axis=-1), ops.stack([bottom, right], axis=-1)
    image = ops.arange(ops.shape(boxes)[0], dtype="int32") // count
    origin, size = (take_rows(x, row) for x in (canvas.origin, canvas.size))
    extent = end - start if aligned else ops.maximum(end - start, 1.0)
    return Grid(image, start, ops.zeros_like(start), origin, size), extent


def _fixed(canvas_map, grid: Grid, bins, size: tuple[int, int], ratio: int):
    step = bins / ratio
    grid = grid._replace(start=grid.start + 0.5 * step, step=step)
    samples = _samples(canvas_map, grid, (size[0] * ratio, size[1] * ratio))
    return ops.average_pool(samples, ratio, ratio) if ratio > 1 else samples


def _adaptive(canvas_map, grid: Grid, bins, size: tuple[int, int]):
    """A loop over the samples of a bin, until the box with most of them has all."""
    ratio = ops.maximum(ops.ceil(bins), 1.0)  # [R, 2]
    step = bins / ratio
    high, wide = (ops.cast(ops.max(ratio[:, i], initial=1.0), "int32") for i in (0, 1))
    shape = (ops.shape(bins)[0], *size, canvas_map.shape[-1])

    def add(turn, total):
        place = ops.cast(ops.stack([turn // wide, turn % wide]), "float32")  # [2]
        is_part = ops.all(place < ratio, axis=-1)
        here = grid._replace(start=grid.start + (place + 0.5) * step, step=bins)
        weight = ops.where(is_part, 1.0 / ops.prod(ratio, axis=-1), 0.0)
        samples = ops.cast(_samples(canvas_map, here, size), "float32")
        return turn + 1, total + weight[:, None, None, None] * samples

    start = (ops.zeros((), "int32"), ops.zeros(shape, "float32"))
    return ops.while_loop(lambda turn, _: turn < high * wide, add, start)[1]


def _samples(canvas_map, grid: Grid, count: tuple[int, int]):
    """Bilinear samples [R, *count, C] at the points of the grid."""
    is_native = keras.backend.backend() == "tensorflow" and not portable.is_wanted()
    read = _crop if is_native else _gather  # LiteRT cannot crop and resize
    samples = read(canvas_map, grid, count)
    inside = [
        (points >= -1.0) & (points <= grid.size[:, axis : axis + 1])
        for axis, points in enumerate(_points(grid, count))
    ]
    is_inside = inside[0][:, :, None] & inside[1][:, None, :]
    return ops.where(is_inside[..., None], samples, ops.zeros((), samples.dtype))


def _points(grid: Grid, count: tuple[int, int]) -> list[Any]:
    """Rows [R, count[0]] and columns [R, count[1]] of the points, in cells of the level."""
    return [
        grid.start[:, axis : axis + 1]
        + grid.step[:, axis : axis + 1] * np.arange(number, dtype=np.float32)
        for axis, number in enumerate(count)
    ]


def _crop(canvas_map, grid: Grid, count: tuple[int, int]):
    import tensorflow as tf

    last = np.array(canvas_map.shape[1:3], np.float32) - 1.0
    steps = np.array(count, np.float32) - 1.0
    first = grid.start + grid.origin
    # Of one point, crop_and_resize takes the middle between the two corners.
    ends = [first, first + grid.step * steps]
    corners = tf.concat(ends, axis=1) / np.tile(last, 2)
    return tf.image.crop_and_resize(canvas_map, corners, grid.image, count)


def _gather(canvas_map, grid: Grid, count: tuple[int, int]):
    # More than a cell outside of its map a sample is 0 whatever is read: the frame keeps it from
    # the neighbouring map.
    y, x = (
        ops.clip(points, -1.0, grid.size[:, axis : axis + 1]) + grid.origin[:, axis : axis + 1]
        for axis, points in enumerate(_points(grid, count))
    )
    shape = (ops.shape(y)[0], *count)
    y, x = ops.broadcast_to(y[:, :, None], shape), ops.broadcast_to(x[:, None, :], shape)
    places = ops.reshape(ops.stack([y, x], axis=-1), (ops.shape(canvas_map)[0], -1, 2))
    return ops.reshape(bilinear_sample(canvas_map, places), (*shape, canvas_map.shape[-1]))
