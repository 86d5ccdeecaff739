"""What a data set is made of: sizes, shapes and numbers of its objects, from annotations alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfdet.data.dataset import DetectionDataset


@dataclasses.dataclass(frozen=True)
class Survey:
    """Facts about N images with T objects; crowds are no objects.

    Attributes:
        class_names: by label.
        objects_of_class, images_of_class: [C], objects, and images with one at least.
        objects_per_image: [N].
        image_sizes: [N, 2] (height, width).
        image_of_object: [T].
        sides: [T, 2] (height, width) in pixels of the image.
        labels: [T].
    """

    class_names: tuple[str, ...]
    objects_of_class: np.ndarray
    images_of_class: np.ndarray
    objects_per_image: np.ndarray
    image_sizes: np.ndarray
    image_of_object: np.ndarray
    sides: np.ndarray
    labels: np.ndarray

    @property
    def num_images(self) -> int:
        return len(self.image_sizes)

    @property
    def num_objects(self) -> int:
        return len(self.labels)

    def scales(self, canvas: Sequence[int] | None) -> np.ndarray:
        """[N] canvas pixels per image pixel where images are fitted into (height, width)."""
        if canvas is None:
            return np.ones(self.num_images)
        return (np.asarray(canvas) / np.maximum(self.image_sizes, 1)).min(axis=1)

    def object_sides(self, canvas: Sequence[int] | None = None) -> np.ndarray:
        """[T, 2] (height, width) in pixels of a canvas (height, width); None: of the images."""
        return self.sides * self.scales(canvas)[self.image_of_object][:, None]


def survey(dataset: DetectionDataset) -> Survey:
    """The facts of a data set."""
    counts = np.diff(dataset.box_offsets)
    kept = ~dataset.is_crowd
    image = np.repeat(np.arange(len(dataset)), counts)[kept]
    boxes, labels = dataset.boxes[kept].astype(np.float64), dataset.labels[kept]
    pairs = np.unique(np.stack([image, labels]), axis=1)
    return Survey(
        class_names=dataset.class_names,
        objects_of_class=np.bincount(labels, minlength=dataset.num_classes),
        images_of_class=np.bincount(pairs[1], minlength=dataset.num_classes),
        objects_per_image=np.bincount(image, minlength=len(dataset)),
        image_sizes=dataset.sizes,
        image_of_object=image,
        sides=boxes[:, 3:1:-1] - boxes[:, 1::-1],
        labels=labels,
    )


def sample(facts: Survey, count: int, seed: int = 0) -> np.ndarray:
    """Positions of up to `count` images, in order, chosen at random.

    Classes that have few images come first, each with one image, in up to half of the sample, so
    that rare ones are seen.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    present = np.flatnonzero(facts.images_of_class)
    for label in present[np.argsort(facts.images_of_class[present], kind="stable")]:
        if len(chosen) >= count // 2:
            break
        images = np.unique(facts.image_of_object[facts.labels == label])
        if not np.isin(images, chosen).any():
            chosen.append(int(rng.choice(images)))
    others = np.setdiff1d(np.arange(facts.num_images), chosen)
    chosen += rng.permutation(others)[: count - len(chosen)].tolist()
    return np.sort(np.array(chosen, np.int64))
