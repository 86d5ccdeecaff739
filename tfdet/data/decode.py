"""Encoded bytes -> upright RGB pixels, with the header checked before anything is decoded."""

import io
import re
import struct
import warnings
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from tfdet import limits
from tfdet.data import gif

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # what tf.io.decode_image reads
_EXIF_ORIENTATION = 0x0112
# What Pillow's readers raise for headers that are damaged.
_HEADER_ERRORS = (OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, OverflowError)
_HEADER_ERRORS += (AttributeError, struct.error, zlib.error)


def hush_pillow() -> None:
    """Ends Pillow's warnings, which name no file.

    They are about images over 89 megapixels, where `header` has a limit of its own, and about
    damage in what cameras write beside the picture.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


hush_pillow()


class ImageError(ValueError):
    """An image that cannot be used; `kind` is one of `problems.KINDS`."""

    def __init__(self, kind: str, detail: str):
        super().__init__(detail)
        self.kind = kind


def header(source: bytes | str) -> tuple[tuple[int, int], int]:
    """Size (height, width) as stored and EXIF orientation 1-8 of an image, without decoding it.

    The orientation is honoured for JPEG, where cameras write it; other formats give 1.

    Args:
        source: contents or path of an image file.

    Raises:
        ImageError: `unreadable_image`, `animated_image`, `palette_image` or `oversized_image`.
    """
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            orientation = 1
            if image.format == "WEBP" and getattr(image, "is_animated", False):
                raise ImageError("animated_image", "only GIFs may move")
            if image.format == "BMP" and image.mode in ("1", "P"):
                # TensorFlow takes their indices for shades of grey, or fails.
                raise ImageError("palette_image", "BMP with a palette; save it as PNG")
            if image.format == "JPEG" and "exif" in image.info:
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        raise ImageError("oversized_image", str(error)) from error
    except ImageError:
        raise
    except _HEADER_ERRORS as error:
        raise ImageError("unreadable_image", "expected " + ", ".join(_FORMATS)) from error
    if height * width > limits.MAX_IMAGE_PIXELS:
        raise ImageError("oversized_image", f"{width} x {height} pixels")
    return (height, width), orientation if orientation in range(1, 9) else 1


def image_format(encoded: bytes) -> str:
    """The format of an image that can be read: "JPEG", "PNG", ..."""
    with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
        return image.format or ""


def as_size(height: float, width: float) -> tuple[int, int] | None:
    """An annotated size as whole numbers; None where it cannot be that of an image."""
    is_size = all(1 <= side <= limits.MAX_IMAGE_SIDE for side in (height, width))
    if not is_size or height * width > limits.MAX_IMAGE_PIXELS:
        return None
    return int(height), int(width)


def turns_upright(
    stored_size: tuple[int, int], orientation: int, annotated_size: tuple[int, int] | None
) -> bool:
    """Whether an image is to be turned by its EXIF orientation.

    Boxes are taken to be drawn on the image as viewers show it, i.e. upright. The exception is an
    annotation that gives the size of the image as it is stored where that differs from the size
    shown: its author saw the stored pixels, and the boxes only fit those.
    """
    if orientation == 1:
        return False
    is_turned_sideways = orientation >= 5 and stored_size[0] != stored_size[1]
    is_annotated_as_stored = annotated_size is not None and tuple(annotated_size) == stored_size
    return not (is_turned_sideways and is_annotated_as_stored)


def displayed_size(source: bytes | str) -> tuple[int, int]:
    """Size (height, width) of an image (contents or path) as viewers show it, from its header."""
    (height, width), orientation = header(source)
    return (width, height) if orientation >= 5 else (height, width)


def decode_image(encoded: bytes, annotated_size: tuple[int, int] | None = None) -> np.ndarray:
    """Pixels of an image file, turned upright.

    TensorFlow decodes, as it does in an exported model, so that both see the same pixels.

    Args:
        encoded: contents of a JPEG, PNG, GIF (first frame), BMP or WebP file.
        annotated_size: (height, width) that the annotation gives, see `turns_upright`.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ImageError: `unreadable_image`, `oversized_image` or `truncated_image`.
    """
    stored_size, orientation = header(encoded)
    if (
        encoded[:4] == b"GIF8" and gif.frame_pixels(encoded) > 3 * limits.MAX_IMAGE_PIXELS
    ):  # a byte for each
        raise ImageError("oversized_image", "all its frames together have too many pixels")
    try:
        with tf.device("CPU:0"):
            pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.OpError as error:
        detail = re.sub(r"^\{\{.*?\}\} | \[Op:\w+\]$", "", error.message.split("\n")[0])
        raise ImageError("truncated_image", detail) from error
    if turns_upright(stored_size, orientation, annotated_size):
        pixels = np.ascontiguousarray(_turn(pixels, orientation))
    return pixels


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation; the numbers are those of the EXIF standard."""
    return {
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
        8: lambda x: np.rot90(x),
    }[orientation](pixels)
