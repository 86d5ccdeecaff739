"""COCO's run-length masks, checked before pycocotools, which trusts them, sees them."""

from collections.abc import Mapping, Sequence


def fits(mask: Mapping, size: Sequence[int]) -> bool:
    """Whether a mask {"size", "counts"} covers an image of (height, width) pixel by pixel."""
    height, width = (int(side) for side in size)
    if mask.get("size") != [height, width]:
        return False
    counts = mask.get("counts")
    if isinstance(counts, (str, bytes)):
        counts = decode(counts)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        return False
    return min(counts, default=-1) >= 0 and sum(counts) == height * width


def decode(text: str | bytes) -> list[int] | None:
    """The lengths of the runs in COCO's compressed form; None where it is not that form.

    A number is in groups of five bits, the lowest first, each a letter from "0" on; bit 5 says that
    more follow, and bit 4 of the last is the sign. From the fourth on, numbers are differences to
    the last but one.
    """
    codes = text.encode("ascii", "replace") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        group = code - 48
        if not 0 <= group < 64 or shift > 35:
            return None
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return None if shift else counts
