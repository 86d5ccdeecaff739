"""Outlines of objects: polygons and run-length masks in a few arrays."""

import array
from collections.abc import Sequence

import numpy as np

from tfdet.data import run_lengths

# A point of an outline may lie outside of the image, but not so far: masks are made by walking
# along the sides.
_FARTHEST = 4  # of the image's longer side
_BLOCK = 1 << 16  # rings that are copied at once


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
        collector = OutlineCollector()
        for segmentation in segmentations:
            collector.add(segmentation)
        return collector.outlines()

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
        rows = np.asarray(rows, np.int64)
        rings, object_offsets = gather(self.object_offsets, rows)
        masked = np.flatnonzero(np.isin(rows, list(self.masks))) if self.masks else []
        masks = {int(new): self.masks[int(rows[new])] for new in masked}
        return self._with_rings(rings, object_offsets, masks)

    def _with_rings(self, rings: np.ndarray, object_offsets: np.ndarray, masks: dict) -> "Outlines":
        lengths = np.diff(self.ring_offsets)[rings]
        ring_offsets = _offsets(lengths)
        points = np.empty((ring_offsets[-1], 2), np.float32)
        for first in range(0, len(rings), _BLOCK):  # the indices of all points are twice as large
            block = slice(first, first + _BLOCK)
            places, _ = gather(self.ring_offsets, rings[block])
            start = ring_offsets[first]
            points[start : start + len(places)] = self.points[places]
        return Outlines(points, ring_offsets, object_offsets, masks)


class OutlineCollector:
    """Takes COCO's `segmentation` values one by one, into arrays.

    What cannot be an outline in any image is left out at once, what cannot be one in its own image
    by `sound`.
    """

    def __init__(self) -> None:
        self._numbers = array.array("f")
        self._ring_numbers = array.array("q")  # numbers in each ring
        self._num_rings = array.array("q")  # of each object
        self._masks: dict[int, dict] = {}
        self._broken: set[int] = set()

    def __len__(self) -> int:
        return len(self._num_rings)

    def add(self, segmentation: object) -> None:
        """Takes the value of the next object."""
        number, count = len(self._num_rings), 0
        if not segmentation:
            pass
        elif isinstance(segmentation, list):
            for polygon in segmentation:
                count += self._add_ring(polygon)
            if count < len(segmentation):
                self._broken.add(number)
        elif isinstance(segmentation, dict):
            self._masks[number] = segmentation
        else:
            self._broken.add(number)
        self._num_rings.append(count)

    def outlines(self) -> Outlines:
        """All that were taken; nothing can be added while they are in use."""
        points = np.asarray(self._numbers).reshape(-1, 2)
        ring_offsets = _offsets(np.asarray(self._ring_numbers) // 2)
        return Outlines(points, ring_offsets, _offsets(np.asarray(self._num_rings)), self._masks)

    def sound(self, rows: np.ndarray, sizes: np.ndarray) -> tuple[Outlines, np.ndarray]:
        """What of the outlines of objects can be in images of (height, width).

        Args:
            rows: int64 [N], objects by the order in which they were added.
            sizes: [N, 2].

        Returns:
            `(outlines, is_whole bool [N])`: those of the N objects, and whether nothing is left
            out.
        """
        every = self.outlines()
        farthest = np.zeros(len(self))
        farthest[rows] = _FARTHEST * sizes.max(axis=1)
        owners = np.repeat(np.arange(len(self)), np.diff(every.object_offsets))
        flat, starts = every.points.reshape(-1), 2 * every.ring_offsets[:-1]
        is_sound = np.ones(len(starts), bool)
        if len(starts):  # NaN is not within either
            is_sound = np.maximum.reduceat(flat, starts) <= farthest[owners]
            is_sound &= np.minimum.reduceat(flat, starts) >= -farthest[owners]
        is_whole = np.ones(len(self), bool)
        is_whole[list(self._broken)] = False
        is_whole[owners[~is_sound]] = False
        new_row = np.full(len(self), -1)
        new_row[rows] = np.arange(len(rows))
        masks = {}
        for t, mask in self._masks.items():
            new = int(new_row[t])
            if new >= 0 and run_lengths.fits(mask, sizes[new]):
                masks[new] = mask
            else:
                is_whole[t] = False
        rings, object_offsets = gather(every.object_offsets, rows)
        kept = is_sound[rings]
        num_kept = np.concatenate([[0], np.cumsum(kept)])[object_offsets]
        return every._with_rings(rings[kept], num_kept, dict(sorted(masks.items()))), is_whole[rows]

    def _add_ring(self, polygon: object) -> bool:
        """Whether a polygon is one, and then it is taken."""
        if isinstance(polygon, list):
            count = len(polygon)
            if count < 6 or count % 2:
                return False
            try:
                self._numbers.fromlist(polygon)
            except (TypeError, OverflowError):
                return self._add_odd_ring(polygon)
            self._ring_numbers.append(count)
            return True
        return isinstance(polygon, np.ndarray) and self._add_odd_ring(polygon)

    def _add_odd_ring(self, polygon: list | np.ndarray) -> bool:
        try:
            with np.errstate(over="ignore"):
                flat = np.asarray(polygon, np.float32)
        except (ValueError, TypeError, OverflowError):
            return False
        if flat.ndim != 1 or len(flat) < 6 or len(flat) % 2:
            return False
        self._numbers.frombytes(flat.tobytes())
        self._ring_numbers.append(len(flat))
        return True


def gather(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places that some rows own, one after the other, and the rows' new offsets.

    Args:
        offsets: [N + 1]; row i owns the places offsets[i]:offsets[i + 1].
        rows: int64 [M].

    Returns:
        `(places int64 [P], new offsets int64 [M + 1])`.
    """
    counts = np.diff(offsets)[rows]
    new_offsets = _offsets(counts)
    places = np.arange(new_offsets[-1]) + np.repeat(offsets[rows] - new_offsets[:-1], counts)
    return places, new_offsets


def _offsets(counts: np.ndarray | Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
