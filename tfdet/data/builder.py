"""Collects the annotations of a reader, cleans them and makes them a `DetectionDataset`."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np

from tfdet import limits
from tfdet.data import decode
from tfdet.data.dataset import DetectionDataset
from tfdet.data.outlines import OutlineCollector, Outlines, gather
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import clean_name, shown


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
        class_names: Iterable[str],
        class_ids: Sequence[int] | None = None,
        problems: Problems | None = None,
        outlines: OutlineCollector | None = None,
    ):
        """Begins with nothing; `outlines` are those that `outline_rows` of images count in."""
        self.name = name
        given = list(class_names)
        self.class_ids = tuple(class_ids or range(1, len(given) + 1))
        pairs = zip(given, self.class_ids, strict=True)
        # One without a name is called by its id.
        self.class_names = tuple(clean_name(text) or str(class_id) for text, class_id in pairs)
        self.problems = problems or Problems()
        self._check_classes()
        self._images: list[tuple] = []
        self._boxes: list[np.ndarray] = []
        self._seen: set = set()
        self._outlines = OutlineCollector() if outlines is None else outlines
        self._outline_rows: list[np.ndarray] = []
        self._has_outlines = False

    def _check_classes(self) -> None:
        """Refuses names that are the same, and counts those that nearly are."""
        if len(self.class_names) > limits.MAX_CLASSES:
            raise UserError(
                f"{self.name} has {len(self.class_names)} classes; at most {limits.MAX_CLASSES} are"
                " read"
            )
        for class_id in self.class_ids:
            if not -(2**63) <= class_id < 2**63:
                raise UserError(f"{self.name}: the class id {shown(class_id)} is over 64 bits")
        alike = collections.defaultdict(list)
        for name in self.class_names:
            alike[name.casefold()].append(name)
        for names in alike.values():
            if len(set(names)) < len(names):
                twice = max(names, key=names.count)
                raise UserError(
                    f"{self.name} has two classes named {twice!r}; give each its own name"
                )
            if len(names) > 1:
                self.problems.add("similar_classes", " and ".join(names))

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
        outline_rows: np.ndarray | None = None,
        span: tuple[int, int] | None = None,
        difficulty: float = np.nan,
    ) -> None:
        """Adds an image with n boxes; a second one of the same id or file is counted and left out.

        Args:
            image_id: the id of the data set.
            file_name: the name of the image inside the data set; orders the images.
            file: path of the file that holds the image.
            size: (height, width) as annotated, see `decode.as_size`; None takes it from the
                image's header.
            boxes: [n, 4] xyxy in pixels of the image.
            labels: [n]; -1 for a class that is not in the list.
            is_crowd, areas, segmentations: [n], or None where the format has none.
            outline_rows: [n], in place of segmentations: rows of the builder's `outlines`.
            span: (offset, length) of the image in a file that holds more than one.
            difficulty: 0 easy to 1 hard, NaN where it is not known.
        """
        keys = {("id", str(image_id)), ("file", file, span)}
        if self._seen & keys:
            self.problems.add("duplicate_id", file_name)
            return
        self._seen |= keys
        if span is None and not os.path.isfile(file):
            self.problems.add("missing_image", file)
            return
        if size is None:
            try:
                size = decode.displayed_size(file)
            except decode.ImageError as error:
                self.problems.add(error.kind, file)
                return
        n = len(boxes)
        table = np.zeros((n, 7), np.float64)  # x0 y0 x1 y1 label crowd area
        if n:
            table[:, :4] = boxes
            table[:, 4] = labels
            table[:, 5] = 0 if is_crowd is None else is_crowd
            table[:, 6] = np.nan if areas is None else areas
        self._images.append((image_id, file_name, file, size, span, difficulty, n))
        self._boxes.append(table)
        if outline_rows is None:
            outline_rows = np.arange(n) + len(self._outlines)
            for segmentation in [None] * n if segmentations is None else segmentations:
                self._outlines.add(segmentation)
            self._has_outlines |= segmentations is not None
        else:
            self._has_outlines = True
        self._outline_rows.append(outline_rows)

    def build(self, render=None) -> DetectionDataset:
        """The cleaned data set; `render` makes its images if they are not in files."""
        if not self._images:
            details = "; ".join(self.problems.lines()) or "it lists none"
            raise UserError(f"{self.name} has no usable image: {details}")
        ids, names, files, sizes, spans, grades, counts = zip(*self._images, strict=True)
        table = np.concatenate(self._boxes)
        image_of_box = np.repeat(np.arange(len(ids)), counts)
        sizes = np.array(sizes, np.int32)
        rows, table = self._clean(table, image_of_box, sizes, names)
        counts = np.bincount(image_of_box[rows], minlength=len(ids))
        for i in np.flatnonzero(counts == 0):
            self.problems.add("empty_image", names[i])
        if not all(isinstance(image_id, int) for image_id in ids):
            ids = [str(image_id) for image_id in ids]
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
            difficulty=np.array(grades) if np.isfinite(grades).all() else None,
            problems=self.problems,
        )
        stems = [os.path.splitext(name)[0] for name in names]
        order = np.argsort(np.array(stems), kind="stable")
        del stems, table
        boxes_in_order, _ = gather(dataset.box_offsets, order)
        if not np.array_equal(order, np.arange(len(order))):
            dataset = dataset.select(order)
        if self._has_outlines:
            outlines = self._sound_outlines(rows, boxes_in_order, image_of_box, sizes, names)
            dataset = dataclasses.replace(dataset, outlines=outlines)
        return dataset

    def _sound_outlines(self, rows, order, image_of_box, sizes, names) -> Outlines:
        """Outlines of the boxes that are kept, in that order; what cannot be one is counted."""
        images = image_of_box[rows]
        collected = np.concatenate(self._outline_rows)[rows]
        outlines, is_whole = self._outlines.sound(collected[order], sizes[images[order]])
        for box in np.sort(order[~is_whole]):
            self.problems.add("broken_outline", names[images[box]])
        return outlines

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
        far_corners = np.tile(sizes[image_of_box[rows]][:, ::-1], 2)
        clipped = np.clip(raw, 0, far_corners)
        had_area = (raw[:, 2:] > raw[:, :2]).all(axis=1)
        has_area = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        report("box_no_area", rows[~has_area])
        # Half a pixel of overhang is rounding of the annotator's tool, not a mistake to report.
        report("box_outside", rows[had_area & (np.abs(raw - clipped) > 0.5).any(axis=1)])
        table[:, :4] = clipped
        sides = clipped[:, 2:] - clipped[:, :2]
        box_areas = sides[:, 0] * sides[:, 1]
        is_area = (table[:, 6] > 0) & (table[:, 6] <= limits.MAX_IMAGE_PIXELS)
        table[:, 6] = np.where(is_area, table[:, 6], box_areas)
        report("crowd", rows[has_area & (table[:, 5] > 0)])
        return rows[has_area], table[has_area]
