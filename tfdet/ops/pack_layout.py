"""Where the maps of a pyramid lie in one packed map: a pure function of the level sizes.

The five patterns are those of PackDet ("PackDet: Packed Long-Head Object Detector", ECCV 2020).
Level 0 is the finest (P3 in the paper). Neighbours touch; a cell that no map covers is a gap.

    pattern 1   level 0 on top, level 1 below it, the others in a row right of level 1
    pattern 2   pattern 1 and, below that row, a second map of every level from 2 on
    pattern 3   as pattern 1, but the others form a stair that ends in the lower right corner
    pattern 4   pattern 3 and a second map of every level from 2 on; the paper's default
    pattern 5   a quad-tree without gaps: three maps of every level from 2 on, four of the last
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np

Size = tuple[int, int]
Box = tuple[int, int, int, int]

PATTERNS = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Disjoint boxes inside a canvas; checked on construction.

    Args:
        height, width: size of the canvas in cells.
        boxes: per map (x0, y0, x1, y1) in cells, half open.
        levels: per map the index of its pyramid level; maps of one level have the same size.
    """

    height: int
    width: int
    boxes: tuple[Box, ...]
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.boxes) != len(self.levels) or not self.boxes:
            raise ValueError(f"expected a level per box, got {self.levels} for {self.boxes}")
        for x0, y0, x1, y1 in self.boxes:
            if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
                raise ValueError(
                    f"box {(x0, y0, x1, y1)} is empty or outside the canvas "
                    f"{self.height}x{self.width}"
                )
        for first, second in itertools.combinations(self.boxes, 2):
            if _overlap(first, second):
                raise ValueError(f"boxes {first} and {second} overlap")

    @property
    def sizes(self) -> tuple[Size, ...]:
        """(height, width) of every map."""
        return tuple((y1 - y0, x1 - x0) for x0, y0, x1, y1 in self.boxes)

    @property
    def fill(self) -> float:
        """Share of the canvas that maps cover."""
        return sum(h * w for h, w in self.sizes) / (self.height * self.width)

    def map_index(self) -> np.ndarray:
        """Number of the map over each cell, int32 [H, W]; -1 in gaps."""
        cells = np.full((self.height, self.width), -1, np.int32)
        for number, (x0, y0, x1, y1) in enumerate(self.boxes):
            cells[y0:y1, x0:x1] = number
        return cells

    def level_map(self) -> np.ndarray:
        """Level of each cell, int32 [H, W]; 0 in gaps, as if they were level 0 (see `map_index`)."""
        return np.array([*self.levels, 0], np.int32)[self.map_index()]

    def locations(self, strides: Sequence[int]) -> np.ndarray:
        """Image coordinates (x, y) of each cell's centre, float32 [H, W, 2]; (-1, -1) in gaps.

        Args:
            strides: pixels per cell of each level.
        """
        points = np.full((self.height, self.width, 2), -1, np.float32)
        for (x0, y0, x1, y1), level in zip(self.boxes, self.levels, strict=True):
            centre_x = (np.arange(x1 - x0) + 0.5) * strides[level]
            centre_y = (np.arange(y1 - y0) + 0.5) * strides[level]
            points[y0:y1, x0:x1] = np.stack(np.meshgrid(centre_x, centre_y), axis=-1)
        return points


def _overlap(first: Box, second: Box) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def pattern_number(pattern: int | str) -> int:
    """1 to 5 from 4, "4", or the names of PackDet's configurations: "m4", "type-4"."""
    text = str(pattern)
    number = text.removeprefix("type-").removeprefix("m")
    if number not in map(str, PATTERNS):
        raise ValueError(f"expected a packing pattern 1 to 5, or m1 to m5, got {pattern!r}")
    return int(number)


def map_levels(pattern: int | str, num_levels: int = 5) -> tuple[int, ...]:
    """Level of every map that a pattern holds, in the order in which `pack` takes the maps.

    Patterns 1 and 3 hold each level once; 2, 4 and 5 need extra maps: the second and later maps of
    a level are extra.
    """
    number = pattern_number(pattern)
    if num_levels < 3:
        raise ValueError(f"packing needs at least 3 pyramid levels, got {num_levels}")
    once = tuple(range(num_levels))
    if number in (1, 3):
        return once
    if number in (2, 4):
        return once + once[2:]
    thrice = [level for level in once[2:] for _ in range(3)]
    return (0, 1, *thrice, num_levels - 1)


def _in_row(sizes: Sequence[Size], x: int, y: int) -> list[Box]:
    """Maps side by side, their upper edges aligned, from (x, y) to the right."""
    boxes = []
    for h, w in sizes:
        boxes.append((x, y, x + w, y + h))
        x += w
    return boxes


def _in_stair(sizes: Sequence[Size], x: int, y: int) -> list[Box]:
    """Maps on a diagonal from (x, y) to the upper left, each ending where the last one begins."""
    boxes = []
    for h, w in sizes:
        boxes.append((x - w, y - h, x, y))
        x, y = x - w, y - h
    return boxes


def _in_quarters(sizes: Sequence[Size], x: int, y: int) -> list[Box]:
    """Three maps of each size around the corner of the next smaller ones; a fourth of the last."""
    boxes = []
    for h, w in sizes:
        corners = [(x, y), (x + w, y), (x, y + h)]
        boxes += [(left, top, left + w, top + h) for left, top in corners]
        x, y = x + w, y + h
    h, w = sizes[-1]
    return [*boxes, (x, y, x + w, y + h)]


def _boxes(number: int, sizes: Sequence[Size]) -> list[Box]:
    (h0, w0), (h1, w1), *rest = sizes
    height, width = h0 + h1, w0
    boxes = [(0, 0, w0, h0), (0, h0, w1, h0 + h1)]
    if number in (1, 2):
        boxes += _in_row(rest, w1, h0)
    if number == 2:
        boxes += _in_row(rest, w1, h0 + rest[0][0])
    if number in (3, 4):
        boxes += _in_stair(rest, width, height)
    if number == 4:
        h2, w2 = rest[0]
        boxes += [(w1, height - h2, w1 + w2, height), *_in_stair(rest[1:], width, height - h2)]
    if number == 5:
        boxes += _in_quarters(rest, w1, h0)
    return boxes


@functools.lru_cache(maxsize=512)
def _layout(number: int, sizes: tuple[Size, ...]) -> Layout:
    (h0, w0), (h1, _), *_ = sizes
    boxes = tuple(_boxes(number, sizes))
    try:
        return Layout(h0 + h1, w0, boxes, map_levels(number, len(sizes)))
    except ValueError as error:
        multiple = "128" if number == 5 else "32, at least 64"
        raise ValueError(
            f"levels of sizes {sizes} cannot be packed in pattern {number}: {error}; with five "
            f"levels from stride 8 on, image sides must be multiples of {multiple}"
        ) from error


def layout(sizes: Sequence[Sequence[int]], pattern: int | str) -> Layout:
    """The layout of a pyramid.

    Args:
        sizes: (height, width) of each level, finest first; at least three. With five levels from
            stride 8 on, patterns 1 to 4 fit image sides that are multiples of 32 and at least 64;
            pattern 5 needs multiples of 128.
        pattern: 1 to 5, or "m4", "type-4".

    Returns:
        A `Layout` whose maps are in the order of `map_levels`.
    """
    number = pattern_number(pattern)
    sizes = tuple((int(h), int(w)) for h, w in sizes)
    map_levels(number, len(sizes))
    return _layout(number, sizes)


def layout_of_maps(sizes: Sequence[Sequence[int]], pattern: int | str) -> Layout:
    """The layout for maps that already stand in the order of `map_levels`, extra maps included.

    Args:
        sizes: (height, width) of each map.
        pattern: 1 to 5, or "m4", "type-4".
    """
    number = pattern_number(pattern)
    for num_levels in range(3, len(sizes) + 1):
        levels = map_levels(number, num_levels)
        if len(levels) == len(sizes):
            first = [levels.index(level) for level in range(num_levels)]
            found = layout([sizes[i] for i in first], number)
            break
    else:
        raise ValueError(
            f"pattern {number} takes {len(map_levels(number))} maps for five levels, "
            f"got {len(sizes)} maps"
        )
    for index, (size, expected) in enumerate(zip(sizes, found.sizes, strict=True)):
        if tuple(size) != expected:
            raise ValueError(
                f"map {index} belongs to level {levels[index]} of pattern {number} and must be "
                f"{expected[0]}x{expected[1]}, got {size[0]}x{size[1]}"
            )
    return found
