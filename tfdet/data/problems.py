"""What can be wrong with a data set, and what is done about each: one policy for all readers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from absl import logging


@dataclasses.dataclass(frozen=True)
class ProblemKind:
    """What was found, what is done about it, and whether something is lost by it."""

    found: str
    action: str
    is_damage: bool = True


KINDS = {
    "missing_image": ProblemKind("image file is missing", "image left out"),
    "unreadable_image": ProblemKind("file is not a readable image", "image left out"),
    "truncated_image": ProblemKind(
        "image is truncated or damaged inside",
        "left out of evaluation; in training the next good image takes its place",
    ),
    "odd_image": ProblemKind(
        "image with damage that its decoder passes over", "used as it is; a part may be wrong"
    ),
    "animated_image": ProblemKind("animated WebP", "left out; save one of its pictures"),
    "palette_image": ProblemKind("BMP with a palette", "image left out; save it as PNG"),
    "oversized_image": ProblemKind("header claims too many pixels", "image left out, not decoded"),
    "unreadable_annotation": ProblemKind("annotation cannot be read", "its image is left out"),
    "unreadable_line": ProblemKind(
        "annotation line cannot be read",
        "line left out; expected a class index and x y width height, or the points of an outline",
    ),
    "not_fractions": ProblemKind("coordinates that are no fractions of the image", "line left out"),
    "missing_annotation": ProblemKind(
        "image without an annotation among others that have one",
        "image left out; where it shows no object, give it a file without any",
    ),
    "missing_label": ProblemKind("image without a label file", "kept as background", False),
    "truncated_record": ProblemKind("record file ends early", "rest of the file is left out"),
    "other_record": ProblemKind(
        "record without image/encoded, of another form", "left out; see docs/data.md"
    ),
    "damaged_record": ProblemKind(
        "record of a length whose checksum is wrong", "rest of the file is left out"
    ),
    "record_checksum": ProblemKind(
        "record whose checksum is wrong",
        "used as it is, and what follows it in its file is not compared; write the file again",
    ),
    "missing_shard": ProblemKind("record file of a series is missing", "its images are left out"),
    "other_format": ProblemKind(
        "picture in a format that is not read", "left out; save it as JPEG or PNG"
    ),
    "unsafe_path": ProblemKind("file name leads out of the data set", "image left out"),
    "duplicate_id": ProblemKind("the same id or file a second time", "the first one is kept"),
    "unknown_image": ProblemKind("box of an image that is not listed", "box left out"),
    "unknown_class": ProblemKind("box of an unknown class", "box left out"),
    "box_not_finite": ProblemKind(
        "box whose coordinates are not four finite numbers", "box left out"
    ),
    "box_no_area": ProblemKind("box without area", "box left out"),
    "box_outside": ProblemKind("box reaches outside its image", "clipped to the image"),
    "broken_outline": ProblemKind("outline that cannot be", "left out, its box is kept"),
    "class_count": ProblemKind("nc is not the number of names", "the names count"),
    "second_name": ProblemKind("class id with a second name", "the first one counts"),
    "similar_classes": ProblemKind(
        "class names that differ in upper and lower case alone", "kept as classes", False
    ),
    "size_mismatch": ProblemKind(
        "image has another size than in its annotation", "boxes clipped to the real size"
    ),
    "exif_rotation": ProblemKind(
        "image is stored rotated (EXIF)", "turned upright when decoded", is_damage=False
    ),
    "exif_ignored": ProblemKind(
        "image is stored rotated (EXIF), but annotated as stored",
        "decoded as stored, so that the boxes fit",
        is_damage=False,
    ),
    "crowd": ProblemKind(
        "crowd box", "no object in training; matched at will in evaluation", is_damage=False
    ),
    "empty_image": ProblemKind("image without boxes", "kept as background", is_damage=False),
}


class Problems:
    """Counts of problems by kind, with the names of the first few files of each.

    `counts` and `examples` are dicts kind -> number, kind -> list of names; kinds that were not
    found are absent. `details`, kind -> sentences, is for kinds of which more is known.
    """

    def __init__(self, max_examples: int = 5):
        self.max_examples = max_examples
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self.details: dict[str, list[str]] = {}
        self._damaged: set[str] = set()

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Counts `count` problems of a kind in the file `name`."""
        if kind not in KINDS:
            raise KeyError(f"unknown kind of problem {kind!r}")
        if count == 0:
            return
        self.counts[kind] = self.counts.get(kind, 0) + int(count)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < self.max_examples and name not in examples:
            examples.append(name)

    def add_detail(self, kind: str, sentence: str) -> None:
        """Keeps what is known of the problems of a kind beyond their files."""
        self.details.setdefault(kind, []).append(sentence)

    def add_damaged(self, kind: str, name: str) -> bool:
        """Counts an image that turned out damaged, once; False where it is counted already."""
        if name in self._damaged:
            return False
        self._damaged.add(name)
        self.add(kind, name)
        return True

    @property
    def num_damaged(self) -> int:
        """Number of problems by which an image, a box or a part of one is lost."""
        return sum(n for kind, n in self.counts.items() if KINDS[kind].is_damage)

    def as_dict(self) -> dict:
        """JSON-ready: kind -> {count, found, action, is_damage, details, examples}."""
        return {
            kind: {
                "count": self.counts[kind],
                **dataclasses.asdict(KINDS[kind]),
                "details": list(self.details.get(kind, ())),
                "examples": list(self.examples[kind]),
            }
            for kind in KINDS
            if kind in self.counts
        }

    def lines(self, damage_only: bool = False) -> list[str]:
        """One line of text per kind that was found."""
        return [
            f"{with_details(entry)} -> {entry['action']}"
            f" ({', '.join(entry['examples'])}{', ...' if self._has_more(kind) else ''})"
            for kind, entry in self.as_dict().items()
            if entry["is_damage"] or not damage_only
        ]

    def warn(self, source: str) -> None:
        """Names in a warning what is lost of a data set, if anything is."""
        if self.num_damaged:
            logging.warning("%s: %s", source, "; ".join(self.lines(damage_only=True)))

    def _has_more(self, kind: str) -> bool:
        return self.counts[kind] > len(self.examples[kind])


def with_details(entry: Mapping[str, Any]) -> str:
    """How often what was found, of an entry of `Problems.as_dict`, with its details."""
    details = f" ({', '.join(entry['details'])})" if entry["details"] else ""
    return f"{entry['count']} x {entry['found']}{details}"
