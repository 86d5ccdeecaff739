"""Masks in the frames of boxes: cutting them out for other boxes, pasting them into images.

A mask [h, w] of a box covers it evenly: value (i, j) stands at the middle of the cell in row i and
column j of h x w cells.
"""

import numpy as np
from keras import ops

from tfdet.ops import roi_align as roi_ops


def crop(masks, boxes_xyxy, new_xyxy, size: tuple[int, int]):
    """Masks as they are seen through other boxes.

    Args:
        masks: [B, N, h, w], any float dtype.
        boxes_xyxy: [B, N, 4] float32, what the masks cover; 0 is seen of an empty one.
        new_xyxy: [B, N, 4] float32, what the new masks are to cover.
        size: (height, width) of the new masks.

    Returns:
        [B, N, *size], bilinear; 0 outside of the old boxes.
    """
    count, height, width = masks.shape[1:]
    corner = ops.tile(boxes_xyxy[..., :2], (1, 1, 2))
    extent = ops.tile(boxes_xyxy[..., 2:], (1, 1, 2)) - corner
    cells = np.array([width, height] * 2, np.float32)
    moved = (new_xyxy - corner) / ops.maximum(extent, 1e-6) * cells
    moved = ops.where(extent > 0, moved, -10.0 * cells)
    maps = {"P0": ops.reshape(masks, (-1, height, width, 1))}
    regions = ops.reshape(moved, (-1, 1, 4))
    levels = ops.zeros(ops.shape(regions)[:2], "int32")
    seen = roi_ops.roi_align(maps, regions, levels, size, sampling_ratio=1)
    return ops.reshape(seen, (-1, count, *size))


def paste(mask: np.ndarray, box_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of an object, bool [H, W].

    A pixel belongs to it where the bilinear mask, with zeros around it, is at least one half at the
    pixel's middle.

    Args:
        mask: [h, w] probabilities.
        box_xyxy: [4] what it covers, in pixels of the image.
        size: (H, W) of the image.
    """
    pixels = np.zeros(size, bool)
    left, top, right, bottom = (float(x) for x in box_xyxy)
    if not (right > left and bottom > top):
        return pixels
    rows = _places(top, bottom, mask.shape[0], size[0])
    columns = _places(left, right, mask.shape[1], size[1])
    if rows is None or columns is None:
        return pixels
    (start_y, y, down), (start_x, x, right) = rows, columns
    framed = np.pad(np.asarray(mask, np.float64), 1)
    seen = framed[y] * (1 - down)[:, None] + framed[y + 1] * down[:, None]
    chances = seen[:, x] * (1 - right) + seen[:, x + 1] * right
    window = slice(start_y, start_y + len(y)), slice(start_x, start_x + len(x))
    pixels[window] = chances >= 0.5
    return pixels


def _places(start: float, end: float, cells: int, limit: int):
    """The first pixel near a side of a box, and of n pixels from there: the cell before each, in a
    mask with a frame of one cell, and how far on to the next one it lies, [n] each.
    """
    first, last = max(int(np.floor(start)) - 1, 0), min(int(np.ceil(end)) + 1, limit)
    if last <= first:
        return None
    place = (np.arange(first, last) + 0.5 - start) / (end - start) * cells + 0.5
    place = np.clip(place, 0, cells + 1)
    cell = np.minimum(place.astype(int), cells)
    return first, cell, place - cell
