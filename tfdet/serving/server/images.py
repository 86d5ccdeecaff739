"""Encoded images from strangers to pixels, refused by name before they cost anything."""

import numpy as np

from tfdet import limits
from tfdet.data import decode, gif
from tfdet.serving.server.refusal import Refusal

TOO_LARGE = "oversized_image"
_SENTENCES = {
    "unreadable_image": "not a whole JPEG, PNG, GIF, BMP or WebP image",
    "animated_image": "an animated WebP; only GIFs may move, of which the first frame counts",
    "palette_image": "a BMP with a palette; send it as PNG",
    "truncated_image": "damaged image",
}


def decoded(encoded: bytes, most_pixels: int) -> np.ndarray:
    """Pixels of an image, upright, uint8 [H, W, 3].

    Args:
        encoded: contents of a file.
        most_pixels: by its header; all frames of a GIF may have three times as many together.

    Raises:
        Refusal: with the reason, in words that go to the client.
    """
    if len(encoded) > limits.MAX_IMAGE_BYTES:
        raise _too_large(f"{len(encoded)} bytes", most_pixels)
    try:
        (height, width), _ = decode.header(encoded)
        if height * width > most_pixels:
            raise _too_large(f"{width} x {height} pixels", most_pixels)
        if encoded[:4] == b"GIF8" and gif.frame_pixels(encoded) > 3 * most_pixels:
            raise _too_large("frames of too many pixels together", most_pixels)
        return decode.decode_image(encoded)
    except decode.ImageError as error:
        if error.kind == TOO_LARGE:
            raise _too_large(str(error), most_pixels) from None
        detail = f" ({error})" if error.kind == "truncated_image" else ""
        raise Refusal(400, _SENTENCES[error.kind] + detail, error.kind) from None


def _too_large(what: str, most_pixels: int) -> Refusal:
    sentence = f"too large: {what}, and at most {most_pixels} pixels are decoded"
    return Refusal(413, sentence, TOO_LARGE)
