"""What `Detector.predict` takes besides batches: names of image files, and single images."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdet.errors import UserError


def as_batches(x: Any) -> Any:
    """What Keras's `predict` takes, of what users have at hand.

    Args:
        x: the name of an image file, or a list of names of files of one size, [B, H, W, 3] then;
            an image [H, W, 3], of which a batch of one is made; everything else stays as it is.
    """
    if isinstance(x, (str, os.PathLike)):
        return _read(x)[None]
    if isinstance(x, (list, tuple)) and x and all(isinstance(v, (str, os.PathLike)) for v in x):
        return _stacked(x)
    shape = getattr(x, "shape", None)
    if shape is not None and len(shape) == 3 and shape[-1] == 3:
        return x[None]
    return x


def _stacked(paths: Sequence[Any]) -> np.ndarray:
    images = [_read(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [f"{one.shape[1]} x {one.shape[0]}" for one in (images[0], image)]
            raise UserError(
                f"expected images of one size, but {os.fspath(paths[0])} has {sizes[0]} and "
                f"{os.fspath(path)} has {sizes[1]} pixels; predict them one after the other, or "
                "use tfdet-infer"
            )
    return np.stack(images)


def _read(path: Any) -> np.ndarray:
    """uint8 [H, W, 3] of an image file, upright."""
    from tfdet.data.decode import ImageError, decode_image  # TensorFlow's; models need it not

    name = os.fspath(path)
    if not os.path.isfile(name):
        kind = "is a folder; use tfdet-infer" if os.path.isdir(name) else "is not there"
        raise UserError(f"expected images or the name of an image file, and {name!r} {kind}")
    try:
        with open(name, "rb") as file:
            return decode_image(file.read())
    except ImageError as error:
        raise UserError(f"{name} cannot be used as an image: {error}") from None
