"""Outlines of objects: polygons and run-length masks in a few arrays."""

from collections.abc import Sequence

import numpy as np

from tfdet.data import run_lengths

# A point of an outline may lie outside of the image, but not so far: masks are made by walking
# along the sides.
_FARTHEST = 4  # of the image's longer side


class Outlines:
    """Outlines of T objects; each has any number of polygons (rings), or a run-length mask.

    Attributes:
        points: float32 [P, 2], (x, y) in pixels of the image.
        ring_offsets: int64 [R + 1]; ring r owns points[ring_offsets[r]:ring_offsets[r + 1]].
        object_offsets: int64 [T + 1]; object t owns the rings object_offsets[t:t + 2].
        masks: object -> COCO's run-length dict {"size", "counts"}; crowds have these.
    """

    def __init__(self, points, ring_offsets, object_offsets, masks: dict[int, dict]):
        self.points = points
        self.ring_offsets = ring_offsets
        self.object_offsets = object_offsets
        self.masks = masks

    @classmethod
    def from_segmentations(cls, segmentations: Sequence) -> "Outlines":
        """From COCO's `segmentation` values: lists of flat polygons, dicts, or None."""
        rings, counts, masks = [], [], {}
        for t, segmentation in enumerate(segmentations):
            polygons = []
            if isinstance(segmentation, dict):
                masks[t] = segmentation
            elif segmentation:
                polygons = [p for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
            rings.extend(np.asarray(p, np.float32).reshape(-1, 2) for p in polygons)
            counts.append(len(polygons))
        points = np.concatenate(rings) if rings else np.zeros((0, 2), np.float32)
        return cls(points, _offsets([len(r) for r in rings]), _offsets(counts), masks)

    def __len__(self) -> int:
        return len(self.object_offsets) - 1

    def rings(self, t: int) -> list[np.ndarray]:
        """Polygons of object t, each float32 [n, 2] of (x, y)."""
        rings = range(self.object_offsets[t], self.object_offsets[t + 1])
        return [self.points[self.ring_offsets[r] : self.ring_offsets[r + 1]] for r in rings]

    def sides(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Sides of the rings of neighbouring objects, and which of these objects owns each.

        Returns:
            `(sides float32 [E, 4], owners int64 [E])`; a side runs from (x, y) to (x, y), owners
            count from the first of the objects.
        """
        num_rings = np.diff(self.object_offsets[rows.start : rows.stop + 1])
        first, last = self.object_offsets[rows.start], self.object_offsets[rows.stop]
        bounds = self.ring_offsets[first : last + 1]
        points = self.points[bounds[0] : bounds[-1]]
        following = np.arange(1, len(points) + 1)
        following[bounds[1:] - bounds[0] - 1] = bounds[:-1] - bounds[0]
        owners = np.repeat(np.repeat(np.arange(len(num_rings)), num_rings), np.diff(bounds))
        return np.concatenate([points, points[following]], axis=1), owners

    def mask_sides(self, t: int) -> np.ndarray:
        """The upright sides of object t's run-length mask, float32 [E, 4]; none without one.

        They are all that the even-odd rule asks for along rows.
        """
        if t not in self.masks:
            return np.zeros((0, 4), np.float32)
        from pycocotools import mask as coco_masks

        runs = self.masks[t]
        if isinstance(runs["counts"], list):
            runs = coco_masks.frPyObjects(runs, *runs["size"])
        pixels = np.pad(coco_masks.decode(runs), ((0, 0), (1, 1)))
        y, x = np.nonzero(np.diff(pixels.astype(np.int8), axis=1))
        return np.stack([x, y, x, y + 1], axis=1).astype(np.float32)

    def runs(self, t: int, size: tuple[int, int]) -> dict | None:
        """Object t's compressed run-length mask in an image of (height, width); None without."""
        from pycocotools import mask as coco_masks

        segmentation = self.segmentation(t)
        if not segmentation:
            return None
        height, width = (int(x) for x in size)
        if isinstance(segmentation, list):
            return coco_masks.merge(coco_masks.frPyObjects(segmentation, height, width))
        if isinstance(segmentation["counts"], list):
            return coco_masks.frPyObjects(segmentation, height, width)
        return segmentation

    def segmentation(self, t: int) -> list | dict:
        """COCO's `segmentation` value of object t."""
        if t in self.masks:
            return self.masks[t]
        return [[round(float(v), 2) for v in ring.reshape(-1)] for ring in self.rings(t)]

    def take(self, rows: np.ndarray) -> "Outlines":
        """The outlines of the given objects, in that order."""
        rings = [self.rings(int(t)) for t in rows]
        flat = [ring for object_rings in rings for ring in object_rings]
        return Outlines(
            np.concatenate(flat) if flat else np.zeros((0, 2), np.float32),
            _offsets([len(ring) for ring in flat]),
            _offsets([len(object_rings) for object_rings in rings]),
            {new: self.masks[int(t)] for new, t in enumerate(rows) if int(t) in self.masks},
        )


def sound_part(segmentation: object, size: Sequence[int]) -> tuple[list | dict | None, bool]:
    """What of COCO's `segmentation` value can be an outline in an image of (height, width).

    Returns:
        `(part, is_whole)`: a value for `Outlines.from_segmentations`, and whether nothing is left
        out of it.
    """
    if not segmentation:
        return None, True
    if isinstance(segmentation, dict):
        fits = run_lengths.fits(segmentation, size)
        return segmentation if fits else None, fits
    if not isinstance(segmentation, list):
        return None, False
    farthest = _FARTHEST * max(size)
    flat = [polygon for p in segmentation if (polygon := _flat(p, farthest)) is not None]
    return flat or None, len(flat) == len(segmentation)


def _flat(polygon: object, farthest: float) -> np.ndarray | None:
    """The numbers float32 [2 n] of a polygon; None where it is none."""
    if not isinstance(polygon, (list, np.ndarray)):
        return None
    try:
        with np.errstate(over="ignore"):
            flat = np.asarray(polygon, np.float32)
    except (ValueError, TypeError, OverflowError):
        return None
    is_polygon = flat.ndim == 1 and len(flat) >= 6 and len(flat) % 2 == 0
    # NaN is not within either.
    return flat if is_polygon and np.abs(flat).max() <= farthest else None


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
