"""Images of any size through a driver, several at once."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from tfdet import memory
from tfdet.ops.letterbox import letterbox
from tfdet.serving.driver import Driver

# Canvases of so many pixels together keep two cores busy; larger batches were no faster there.
_PIXELS, _MOST_IMAGES = 8 * 512 * 512, 32


def default_batch_size(image_size: tuple[int, int]) -> int:
    """Images per step for canvases of a size (height, width): 32 of 256x256, 8 of 512x512, ..."""
    height, width = image_size
    fitting = max(1, _PIXELS // (height * width))
    return min(_MOST_IMAGES, 1 << (fitting.bit_length() - 1))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """An image on its way to a driver.

    Attributes:
        image: uint8 [H, W, 3].
        canvas: float32 [*image_size, 3] that it was fitted into; None where the driver does that.
        scale: canvas pixels per image pixel.
    """

    image: np.ndarray
    canvas: np.ndarray | None
    scale: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + (0 if self.canvas is None else self.canvas.nbytes)


class BatchDetector:
    """Detects in images of any size, several at once, with what is found in each alone.

    Args:
        driver: what detects. An export of an earlier version, which has no signature for fitted
            images, gets the images of equal size together.
        batch_size: images per step; halved for good where the memory does not suffice.
        threshold: of a dynamic detector, in the place of its own.
    """

    def __init__(self, driver: Driver, batch_size: int, threshold: float | None = None):
        if driver.batch_size is not None:
            batch_size = driver.batch_size
        self.batch_size = batch_size
        self._driver = driver
        self._threshold = threshold
        self._letterbox = None if driver.pad_value is None else _letterbox(driver)

    def fitted_bytes(self, size: tuple[int, int]) -> int:
        """The memory that an image (height, width) takes once it is fitted."""
        canvas = 0 if self._letterbox is None else 4 * int(np.prod(self._driver.image_size))
        return 3 * (size[0] * size[1] + canvas)

    def fit(self, image: np.ndarray) -> Fitted:
        """An image, uint8 [H, W, 3], as `detect` takes it; may be called from any thread."""
        if self._letterbox is None:
            return Fitted(image, None, np.float32(1))
        with tf.device("CPU:0"):
            canvas, scale = self._letterbox(tf.constant(image))
        return Fitted(image, canvas.numpy(), scale.numpy())

    def detect(self, images: Sequence[Fitted]) -> list[dict[str, np.ndarray]]:
        """The detections of each image, [1, ...] as `Driver.detect` gives them for it alone."""
        found: list[dict[str, np.ndarray]] = []
        while len(found) < len(images):
            part = images[len(found) : len(found) + self.batch_size]
            try:
                found += self._detect(part)
            except Exception as error:
                if not memory.is_exhausted(error) or len(part) == 1:
                    raise
                self.batch_size = len(part) // 2
                logging.warning(
                    "%d images in a batch do not fit into memory; going on with %d",
                    len(part),
                    self.batch_size,
                )
        return found

    def _detect(self, images: Sequence[Fitted]) -> list[dict[str, np.ndarray]]:
        if self._letterbox is None:
            return self._detect_equal(images)
        found = self._driver.detect_fitted(
            np.stack([one.canvas for one in images]),  # type: ignore[misc]  # all have one
            np.stack([one.scale for one in images]),
            np.array([one.image.shape[:2] for one in images], np.int32),
            self._threshold,
        )
        return _rows(found, len(images))

    def _detect_equal(self, images: Sequence[Fitted]) -> list[dict[str, np.ndarray]]:
        """As `_detect`, a step for each size of image."""
        places: dict[tuple[int, ...], list[int]] = {}
        for i, one in enumerate(images):
            places.setdefault(one.image.shape, []).append(i)
        found: dict[int, dict[str, np.ndarray]] = {}
        for rows in places.values():
            batch = np.stack([images[i].image for i in rows])
            detected = _rows(self._driver.detect(batch, self._threshold), len(rows))
            found.update(zip(rows, detected, strict=True))
        return [found[i] for i in range(len(images))]


def _letterbox(driver: Driver) -> tf.types.experimental.GenericFunction:
    size, pad_value = driver.image_size, driver.pad_value
    assert pad_value is not None

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)], autograph=False)
    def fit(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return letterbox(image, size, pad_value)

    return fit


def _rows(found: dict[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
    return [{name: x[i : i + 1] for name, x in found.items()} for i in range(count)]
