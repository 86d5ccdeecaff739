"""Collects the annotations of a reader, cleans them and makes them a `DetectionDataset`."""

import os
from collections.abc import Sequence

import numpy as np

from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, displayed_size, has_pixels
from tfdet.data.outlines import Outlines
from tfdet.data.problems import Problems
from tfdet.errors import UserError


class DatasetBuilder:
    """What every reader fills, so that all formats are cleaned, ordered and rounded alike.

    Boxes are kept to a hundredth of a pixel, the precision of COCO's own files: a coordinate that
    went through YOLO's text or the float32 fractions of a TFRecord comes back as the same number.
    Images are ordered by file name without extension, since each format lists them in another
    order.
    """

    def __init__(
        self,
        name: str,
        class_names: Sequence[str],
        class_ids: Sequence[int] | None = None,
        problems: Problems | None = None,
    ):
        self.name = name
        self.class_names = tuple(class_names)
        if len(set(self.class_names)) < len(self.class_names):
            twice = next(n for n in self.class_names if self.class_names.count(n) > 1)
            raise UserError(f"{name} has two classes named {twice!r}; give each its own name")
        self.class_ids = tuple(class_ids or range(1, len(self.class_names) + 1))
        self.problems = problems or Problems()
        self._images: list[tuple] = []
        self._boxes: list[np.ndarray] = []
        self._seen: set = set()
        self._segmentations: list = []
        self._has_outlines = False

    def add_image(
        self,
        image_id: int | str,
        file_name: str,
        file: str,
        size: tuple[int, int] | None,
        boxes: Sequence,
        labels: Sequence[int],
        is_crowd: Sequence[bool] | None = None,
        areas: Sequence[float] | None = None,
        segmentations: Sequence | None = None,
        span: tuple[int, int] | None = None,
    ) -> None:
        """Adds an image with n boxes; a second one of the same id or file is counted and left out.

        Args:
            image_id: the id of the data set.
            file_name: the name of the image inside the data set; orders the images.
            file: path of the file that holds the image.
            size: (height, width) as annotated; None takes it from the image's header.
            boxes: [n, 4] xyxy in pixels of the image.
            labels: [n]; -1 for a class that is not in the list.
            is_crowd, areas, segmentations: [n], or None where the format has none.
            span: (offset, length) of the image in a file that holds more than one.
        """
        keys = {("id", image_id), ("file", file, span)}
        if self._seen & keys:
            self.problems.add("duplicate_id", file_name)
            return
        self._seen |= keys
        if span is None and not os.path.isfile(file):
            self.problems.add("missing_image", file)
            return
        if size is None or not has_pixels(size):
            try:
                size = displayed_size(file)
            except ImageError as error:
                self.problems.add(error.kind, file)
                return
        n = len(boxes)
        table = np.zeros((n, 7), np.float64)  # x0 y0 x1 y1 label crowd area
        if n:
            table[:, :4] = boxes
            table[:, 4] = labels
            table[:, 5] = 0 if is_crowd is None else is_crowd
            table[:, 6] = np.nan if areas is None else areas
        self._images.append((image_id, file_name, file, size, span, n))
        self._boxes.append(table)
        self._segmentations.extend(segmentations if segmentations is not None else [None] * n)
        self._has_outlines |= segmentations is not None

    def build(self, render=None) -> DetectionDataset:
        """The cleaned data set; `render` makes its images if they are not in files."""
        if not self._images:
            details = "; ".join(self.problems.lines()) or "it lists none"
            raise UserError(f"{self.name} has no usable image: {details}")
        ids, names, files, sizes, spans, counts = zip(*self._images, strict=True)
        table = np.concatenate(self._boxes)
        image_of_box = np.repeat(np.arange(len(ids)), counts)
        sizes = np.array(sizes, np.int32)
        rows, table = self._clean(table, image_of_box, sizes, names)
        counts = np.bincount(image_of_box[rows], minlength=len(ids))
        for i in np.flatnonzero(counts == 0):
            self.problems.add("empty_image", names[i])
        outlines = None
        if self._has_outlines:
            outlines = Outlines.from_segmentations([self._segmentations[r] for r in rows])
        dataset = DetectionDataset(
            name=self.name,
            class_names=self.class_names,
            class_ids=self.class_ids,
            image_ids=np.array(ids),
            names=np.array(names),
            files=np.array(files),
            sizes=sizes,
            box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=table[:, :4].astype(np.float32),
            labels=table[:, 4].astype(np.int32),
            is_crowd=table[:, 5].astype(bool),
            areas=table[:, 6].astype(np.float32),
            spans=None if spans[0] is None else np.array(spans, np.int64),
            render=render,
            outlines=outlines,
            problems=self.problems,
        )
        stems = [os.path.splitext(name)[0] for name in names]
        order = np.argsort(np.array(stems), kind="stable")
        is_ordered = np.array_equal(order, np.arange(len(order)))
        return dataset if is_ordered else dataset.select(order)

    def _clean(self, table, image_of_box, sizes, names) -> tuple[np.ndarray, np.ndarray]:
        """Indices and cleaned rows of the boxes that are kept; the others are counted."""

        def report(kind, rows):
            images, counts = np.unique(image_of_box[rows], return_counts=True)
            for i, count in zip(images, counts, strict=True):
                self.problems.add(kind, names[i], count)

        rows = np.arange(len(table))
        is_finite = np.isfinite(table[:, :4]).all(axis=1)
        report("box_not_finite", rows[~is_finite])
        is_known = (table[:, 4] >= 0) & (table[:, 4] < len(self.class_names))
        report("unknown_class", rows[is_finite & ~is_known])
        rows = rows[is_finite & is_known]
        table = table[rows]
        raw = np.round(table[:, :4], 2)
        limits = np.tile(sizes[image_of_box[rows]][:, ::-1], 2)
        clipped = np.clip(raw, 0, limits)
        had_area = (raw[:, 2:] > raw[:, :2]).all(axis=1)
        has_area = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        report("box_no_area", rows[~has_area])
        # Half a pixel of overhang is rounding of the annotator's tool, not a mistake to report.
        report("box_outside", rows[had_area & (np.abs(raw - clipped) > 0.5).any(axis=1)])
        table[:, :4] = clipped
        sides = clipped[:, 2:] - clipped[:, :2]
        box_areas = sides[:, 0] * sides[:, 1]
        table[:, 6] = np.where(table[:, 6] > 0, table[:, 6], box_areas)
        report("crowd", rows[has_area & (table[:, 5] > 0)])
        return rows[has_area], table[has_area]
