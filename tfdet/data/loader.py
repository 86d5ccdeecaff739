"""Reads decoded images of a data set, and what happens when one of them is damaged."""

import numpy as np
from absl import logging

from tfdet.data.dataset import DetectionDataset
from tfdet.data.decode import ImageError, decode_image
from tfdet.data.windows import WindowReader
from tfdet.errors import UserError

MAX_CACHE_BYTES = 8 * 2**30


def check_usable(dataset: DetectionDataset) -> None:
    """Refuses a data set from which nothing can be learned or measured: no image, or no box."""
    if not len(dataset.boxes):
        details = "".join(f"; {line}" for line in dataset.problems.lines())
        raise UserError(f"{dataset.name} has no boxes at all{details}; see tfdet-data check")
    ImageLoader(dataset).load_or_next(0)


class ImageLoader:
    """Decoded images by position; thread-safe, since it is called from tf.data's threads.

    A damaged image is counted once in `dataset.problems` and named in a warning, however many
    loaders meet it, and never raises.

    Args:
        dataset: the data set.
        keep_decoded: keep every decoded image in memory, for small sets that are read often.
        reader: gives the encoded images; None for the data set itself.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        keep_decoded: bool = False,
        reader: WindowReader | None = None,
    ):
        self.dataset = dataset
        self._source = reader or dataset
        self._damaged: set[int] = set()
        self._decoded: dict[int, np.ndarray] | None = {} if keep_decoded else None
        needed = 3 * int(dataset.sizes.astype(np.int64).prod(axis=1).sum())
        if keep_decoded and needed > MAX_CACHE_BYTES:
            raise UserError(
                f"the decoded images of {dataset.name} take {needed / 2**30:.1f} GiB, more than"
                f" the {MAX_CACHE_BYTES / 2**30:.0f} GiB allowed; turn data.cache off"
            )

    def load(self, i: int) -> np.ndarray | None:
        """uint8 [H, W, 3] of image i, or None where it is damaged."""
        if self._decoded is not None and i in self._decoded:
            return self._decoded[i]
        if i in self._damaged:
            return None
        try:
            size = tuple(int(v) for v in self.dataset.sizes[i])
            image = decode_image(self._source.encoded(i), size)
        except (ImageError, OSError) as error:
            self._report(i, error)
            return None
        if self._decoded is not None:
            self._decoded[i] = image
        return image

    def load_or_next(self, i: int) -> tuple[np.ndarray, int]:
        """Image i and its position; the next good image in its place where i is damaged."""
        for step in range(len(self.dataset)):
            position = (i + step) % len(self.dataset)
            image = self.load(position)
            if image is not None:
                return image, position
        raise UserError(f"{self.dataset.name} has no readable image; see tfdet-data check")

    def _report(self, i: int, error: Exception) -> None:
        if i in self._damaged:
            return
        self._damaged.add(i)
        kind = error.kind if isinstance(error, ImageError) else "missing_image"
        name = str(self.dataset.names[i])
        if self.dataset.problems.add_damaged(kind, name):
            logging.warning("%s: %s (%s); left out", name, kind.replace("_", " "), error)
