"""The pictures of the report: the images that went worst, and examples of each kind of error."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfdet.data import loader
from tfdet.evaluation import coco, error_kinds, image_scores
from tfdet.evaluation.analysis import Analysis
from tfdet.printable import counted
from tfdet.visualization import draw, page
from tfdet.visualization.markup import Markup
from tfdet.visualization.page import Picture

NUM_WORST = 12
NUM_EXAMPLES = 4  # of each kind of error
NUM_ROUTED = 4  # least and most expensive images
_SIDE, _CROP = 520, 300  # pixels of the longer side
_MARGIN = 0.6  # around what a crop is about, in parts of its longer side
_MANY = 15  # objects


class Shown(NamedTuple):
    """An image of the data set beside itself: with its truth, and with its detections."""

    position: int
    truth: Picture
    detections: Picture


class Gallery:
    """Draws images of an analysis; each is read when it is asked for and then let go of.

    Args:
        analysis: of boxes; masks are drawn where the detections have them.
    """

    def __init__(self, analysis: Analysis):
        self._analysis, self._findings = analysis, analysis.findings
        self._images = loader.ImageLoader(self._findings.dataset)
        self._by_image = np.argsort(self._findings.found.image, kind="stable")
        self._image_of = self._findings.found.image[self._by_image]

    def name(self, position: int) -> str:
        """The file name of an image."""
        return str(self._findings.dataset.names[position])

    def positions(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """The positions in the data set of images that are listed with their "id"."""
        ids = self._findings.dataset.image_ids
        return [int(np.flatnonzero(ids == row["id"])[0]) for row in rows]

    def shown(self, positions: Sequence[int]) -> Iterator[Shown]:
        """Images with their truth and their detections; those that cannot be read are left out.

        Detections below the best threshold are not drawn. Objects that were not found and wrong
        detections are dashed, and the latter have the kind of the error behind them.
        """
        for position in positions:
            image = self._images.load(int(position))
            if image is not None:
                canvas, scale = page.fitted(image, _SIDE)
                yield Shown(
                    int(position),
                    self._truth(int(position), canvas, scale),
                    self._detections(int(position), canvas, scale),
                )

    def examples(self, kind: str) -> Iterator[tuple[int, Picture]]:
        """Positions and crops around the surest errors of a kind, or around missed objects."""
        number = error_kinds.KINDS.index(kind)
        if kind == "missed":
            yield from self._missed()
            return
        findings, errors = self._findings, self._analysis.errors
        for i in image_scores.surest_errors(findings, errors, number, NUM_EXAMPLES):
            near = self._nearest(int(i), kind in ("location", "duplicate"))
            crop = self._crop(int(findings.found.image[i]), int(i), near)
            if crop is not None:
                yield int(findings.found.image[i]), crop

    def _missed(self) -> Iterator[tuple[int, Picture]]:
        truth = self._findings.truth
        rows = np.flatnonzero(self._analysis.sure_errors.is_missed)
        rows = rows[np.argsort(-truth.areas[rows], kind="stable")]  # the large ones surprise most
        _, first = np.unique(truth.image[rows], return_index=True)
        for t in rows[np.sort(first)][:NUM_EXAMPLES]:
            crop = self._crop(int(truth.image[t]), None, int(t))
            if crop is not None:
                yield int(truth.image[t]), crop

    def _nearest(self, detection: int, of_its_class: bool) -> int | None:
        """The object that a detection overlaps most."""
        pairs, findings = self._analysis.pairs, self._findings
        rows = np.arange(*np.searchsorted(pairs.detection, [detection, detection + 1]))
        if of_its_class:
            labels = findings.truth.labels[pairs.truth[rows]]
            rows = rows[labels == findings.found.labels[detection]]
        return int(pairs.truth[rows[np.argmax(pairs.overlap[rows])]]) if len(rows) else None

    def _truth(self, position: int, canvas: np.ndarray, scale: float) -> Picture:
        truth, names = self._findings.truth, self._findings.dataset.class_names
        rows = np.arange(*np.searchsorted(truth.image, [position, position + 1]))
        is_sure = self._findings.found.scores >= self._analysis.threshold
        matches = self._analysis.matches
        is_found = np.isin(rows, matches.truth[matches.is_hit & is_sure])
        # Among many the dashes have to do.
        absent = "not found" if len(rows) <= _MANY else ""
        notes = np.where(truth.is_crowd[rows], "crowd", np.where(is_found, "", absent))
        if self._findings.found.runs is not None:
            canvas = self._with_masks(canvas, truth.labels[rows], self._outlines(rows))
        drawn = draw.draw_boxes(
            canvas,
            truth.boxes[rows] * scale,
            truth.labels[rows],
            names,
            notes=notes.tolist(),
            dashed=~is_found,
        )
        return page.encoded(
            drawn, f"{counted(len(rows), 'object')}, {int(is_found.sum())} of them found"
        )

    def _detections(self, position: int, canvas: np.ndarray, scale: float) -> Picture:
        found, analysis = self._findings.found, self._analysis
        rows = self._by_image[slice(*np.searchsorted(self._image_of, [position, position + 1]))]
        rows = rows[found.scores[rows] >= analysis.threshold]
        kinds = analysis.sure_errors.kind[rows]
        notes = [error_kinds.KINDS[kind] if kind >= 0 else "" for kind in kinds]
        if found.runs is not None:
            runs = [found.runs[i] for i in rows]
            canvas = self._with_masks(canvas, found.labels[rows], runs)
        drawn = draw.draw_boxes(
            canvas,
            found.boxes[rows] * scale,
            found.labels[rows],
            self._findings.dataset.class_names,
            found.scores[rows],
            notes,
            kinds >= 0,
        )
        return page.encoded(
            drawn, f"{counted(len(rows), 'detection')}, {int((kinds >= 0).sum())} of them wrong"
        )

    def _crop(self, position: int, detection: int | None, near: int | None) -> Picture | None:
        """The part of an image around a detection and an object; the object is dashed."""
        image = self._images.load(position)
        if image is None:
            return None
        truth, found = self._findings.truth, self._findings.found
        names = self._findings.dataset.class_names
        boxes, labels, notes, captions = [], [], [], []
        if detection is not None:
            boxes.append(found.boxes[detection])
            labels.append(found.labels[detection])
            captions.append(names[found.labels[detection]])
            notes.append(f"{found.scores[detection]:.2f}")
        if near is not None:
            boxes.append(truth.boxes[near])
            labels.append(truth.labels[near])
            captions.append(names[truth.labels[near]])
            notes.append("truth")
        part, corner = _around(image, np.array(boxes))
        canvas, scale = page.fitted(part, _CROP)
        placed = (np.array(boxes) - np.tile(corner, 2)) * scale
        dashed = np.array(notes) == "truth"
        drawn = draw.draw_boxes(canvas, placed, np.array(labels), names, notes=notes, dashed=dashed)
        texts = [f"{name} {note}" for name, note in zip(captions, notes, strict=True)]
        return page.encoded(drawn, ", ".join(texts))

    def _outlines(self, rows: np.ndarray) -> list[dict[str, Any]]:
        dataset, truth = self._findings.dataset, self._findings.truth
        sizes = dataset.sizes[truth.image[rows]].tolist()
        pairs = zip(truth.rows[rows].tolist(), sizes, strict=True)
        return [coco.runs_of_object(dataset, row, (h, w)) for row, (h, w) in pairs]

    def _with_masks(
        self, canvas: np.ndarray, labels: np.ndarray, runs: Sequence[dict[str, Any]]
    ) -> np.ndarray:
        from pycocotools import mask as coco_masks

        size = (canvas.shape[1], canvas.shape[0])
        for label, one in zip(labels[::-1], list(runs)[::-1], strict=True):
            pixels = Image.fromarray(coco_masks.decode(one) * 255).resize(size, Image.BILINEAR)
            canvas = draw.tint(canvas, np.asarray(pixels) > 127, int(label))
        return canvas


def _around(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image around some boxes, and its corner (left, top)."""
    size = np.array(image.shape[1::-1])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(float((high - low).max()) * (1 + _MARGIN), 48.0)
    corner = np.clip((low + high - side) / 2, 0, np.maximum(size - side, 0)).astype(int)
    end = np.minimum(corner + int(np.ceil(side)), size)
    return image[corner[1] : end[1], corner[0] : end[0]], corner


def side_by_side(shown: Shown, caption: str) -> Markup:
    """An image with its truth and its detections, as it stands in the page."""
    return page.figure(caption, shown.truth, shown.detections, class_="pair")
