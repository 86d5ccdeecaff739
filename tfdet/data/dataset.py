"""A detection data set: annotations in arrays, images as bytes on demand."""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from tfdet import limits
from tfdet.data import storage
from tfdet.data.class_labels import count_left_out
from tfdet.data.decode import ImageError
from tfdet.data.outlines import Outlines, gather
from tfdet.data.problems import Problems
from tfdet.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Annotations of N images with T boxes; image i owns the rows box_offsets[i]:box_offsets[i+1].

    Everything is a NumPy array: a Python object per image or box would cost gigabytes on COCO, and
    its reference counts would be copied into every worker.

    Attributes:
        name: the source in words, for messages.
        class_names: names of the classes, by label.
        class_ids: the ids of the data set, by label.
        image_ids: int64 or str [N].
        names: str [N], the file name of the image inside the data set.
        files: str [N], the path that holds the image (for records: the record file).
        sizes: int32 [N, 2], annotated (height, width).
        box_offsets: int64 [N + 1].
        boxes: float32 [T, 4], xyxy in pixels of the image, inside it, with area.
        labels: int32 [T], 0 .. C - 1.
        is_crowd: bool [T].
        areas: float32 [T], of the outline where the source has it, otherwise of the box.
        spans: int64 [N, 2], (offset, length) of the encoded image in its file; None: whole files.
        render: image id -> encoded image, for data sets that are generated; None: read `files`.
        outlines: polygons of the objects, None where the source has none.
        difficulty: float64 [N], 0 easy to 1 hard, where the source grades its images.
        assumed: what the reader took for granted where the source does not say it, a sentence each.
        problems: what was wrong with the source; grows when images turn out damaged later.
    """

    name: str
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    image_ids: np.ndarray
    names: np.ndarray
    files: np.ndarray
    sizes: np.ndarray
    box_offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    spans: np.ndarray | None = None
    render: Callable[[int], bytes] | None = None
    outlines: Outlines | None = None
    difficulty: np.ndarray | None = None
    assumed: tuple[str, ...] = ()
    problems: Problems = dataclasses.field(default_factory=Problems)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def encoded(self, i: int) -> bytes:
        """The encoded image (JPEG, PNG, ...) at position i; an `ImageError` for huge files."""
        if self.render is not None:
            return self.render(int(self.image_ids[i]))
        if self.spans is None:
            with open(self.files[i], "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > limits.MAX_IMAGE_BYTES:
                    raise ImageError("oversized_image", f"a file of {size} bytes")
                return file.read()
        offset, length = (int(x) for x in self.spans[i])
        with storage.open_to_read(str(self.files[i])) as file:
            file.seek(offset)
            return file.read(length)

    def rows(self, i: int) -> slice:
        """The rows of image i in `boxes`, `labels`, `is_crowd` and `areas`."""
        return slice(int(self.box_offsets[i]), int(self.box_offsets[i + 1]))

    def subset(self, n: int) -> "DetectionDataset":
        """The first n images (all, if there are fewer)."""
        return self.select(np.arange(min(n, len(self))))

    def select(self, indices: Sequence[int] | np.ndarray) -> "DetectionDataset":
        """The images at the given positions, in that order."""
        indices = np.asarray(indices, np.int64)
        rows, offsets = gather(self.box_offsets, indices)
        return dataclasses.replace(
            self,
            image_ids=self.image_ids[indices],
            names=self.names[indices],
            files=self.files[indices],
            sizes=self.sizes[indices],
            spans=None if self.spans is None else self.spans[indices],
            difficulty=None if self.difficulty is None else self.difficulty[indices],
            box_offsets=offsets,
            **self._take_boxes(rows),
        )

    def with_classes(
        self, class_names: Sequence[str], class_ids: Sequence[int]
    ) -> "DetectionDataset":
        """The same images with the labels of another class list, e.g. that of a trained model.

        Classes are matched by name. Boxes of classes that are not in the list are left out and
        counted as `unknown_class`.
        """
        if tuple(class_names) == self.class_names:
            return dataclasses.replace(self, class_ids=tuple(class_ids))
        new_label = {name: label for label, name in enumerate(class_names) if name}
        if not new_label.keys() & set(self.class_names):
            raise UserError(
                f"expected classes {_listed(class_names)}, but {self.name} has"
                f" {_listed(self.class_names)}; give a data set of the same classes"
            )
        mapping = np.array([new_label.get(name, -1) for name in self.class_names], np.int32)
        labels = mapping[self.labels]
        keep = labels >= 0
        image_of_box = np.repeat(np.arange(len(self)), np.diff(self.box_offsets))
        names = self.names[image_of_box[~keep]]
        lost = self.labels[~keep]
        count_left_out(self.problems, self.class_names, class_names, lost, names)
        counts = np.bincount(image_of_box[keep], minlength=len(self))
        kept = self._take_boxes(np.flatnonzero(keep))
        return dataclasses.replace(
            self,
            class_names=tuple(class_names),
            class_ids=tuple(class_ids),
            box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            **(kept | {"labels": labels[keep]}),
        )

    def _take_boxes(self, rows: np.ndarray) -> dict:
        return {
            "boxes": self.boxes[rows],
            "labels": self.labels[rows],
            "is_crowd": self.is_crowd[rows],
            "areas": self.areas[rows],
            "outlines": None if self.outlines is None else self.outlines.take(rows),
        }


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"({shown}, ... {len(names)} in all)" if len(names) > 8 else f"({shown})"
