"""Where the captions of boxes go, so that they hide neither each other nor small objects."""

import numpy as np

Place = tuple[float, float, float, float]

_HIDES_CAPTION, _HIDES_BOX = 4.0, 1.0  # how bad it is, by the part that is hidden
_CROWDED = 0.05  # of a caption that would lie on others: it is left out


class Places:
    """The captions of a picture, each of which takes a place.

    Args:
        size: (width, height) of the picture.
        boxes_xyxy: float64 [N, 4], of all boxes.
        margin: of the frames around the boxes, in pixels.
    """

    def __init__(self, size: tuple[int, int], boxes_xyxy: np.ndarray, margin: float):
        self._size, self._boxes, self._margin = size, boxes_xyxy, margin
        self._taken = np.zeros((0, 4))

    def take(self, box: np.ndarray, extent: tuple[float, float], is_needed: bool) -> Place | None:
        """The place of a caption, left, top, right and bottom, which nobody gets then.

        Args:
            box: float64 [4], xyxy, what the caption is of.
            extent: width and height of the caption.
            is_needed: whether it has to stand somewhere, also where there is no room.

        Returns:
            The place; None where there is no room.
        """
        places = self._around(box, extent)
        area = extent[0] * extent[1]
        on_captions = _common(places, self._taken).sum(axis=1) / area
        # Of a large box a caption hides next to nothing.
        covered = _common(places, self._boxes) / np.maximum(_areas(self._boxes), area)
        cost = _HIDES_CAPTION * on_captions + _HIDES_BOX * covered.sum(axis=1)
        best = int(np.argmin(cost))
        if on_captions[best] > _CROWDED and not is_needed:
            return None
        self._taken = np.concatenate([self._taken, places[best : best + 1]])
        left, top, right, bottom = places[best].tolist()
        return left, top, right, bottom

    def _around(self, box: np.ndarray, extent: tuple[float, float]) -> np.ndarray:
        """Places on, under and within the frame of a box, the best ones first: float64 [n, 4]."""
        width, height = extent
        left, top, right, bottom = box + self._margin * np.array([-1, -1, 1, 1])
        at = [
            (x, y)
            for y in (top - height, top, bottom, bottom - height, (top + bottom - height) / 2)
            for x in (left, right - width, (left + right - width) / 2)
        ]
        beside = [(x, y) for x in (right, left - width) for y in (top, bottom - height)]
        corner = np.clip([*at, *beside], 0, np.maximum(np.array(self._size) - extent, 0))
        return np.concatenate([corner, corner + extent], axis=1)


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0), axis=1)


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common areas of boxes [n, 4] and [m, 4], float64 [n, m]."""
    first, second = first[:, None], second[None]
    corner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    return np.prod(np.maximum(corner, 0), axis=-1)
