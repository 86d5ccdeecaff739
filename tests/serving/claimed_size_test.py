"""Tests of sizes that headers claim."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.limits import MAX_IMAGE_PIXELS
from tfdet.serving import claimed_size, decode

pixels_in_graph = tf.function(
    claimed_size.claimed_pixels, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)
decode_in_graph = tf.function(
    decode.decode_upright, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)


def _encoded(kind, size=(300, 171), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, kind, **options)
    return file.getvalue()


_FILES = {
    "JPEG": lambda: _encoded("JPEG"),
    "progressive JPEG": lambda: _encoded("JPEG", progressive=True),
    "PNG": lambda: _encoded("PNG"),
    "BMP": lambda: _encoded("BMP"),
    "GIF": lambda: _encoded("GIF"),
    "WebP": lambda: _encoded("WEBP"),
    "lossless WebP": lambda: _encoded("WEBP", lossless=True),
    "WebP with EXIF": lambda: _encoded("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@pytest.mark.parametrize("kind", _FILES)
def test_the_size_is_that_of_the_image(kind):
    assert pixels_in_graph(_FILES[kind]()).numpy() == 300 * 171


def _animation(frames):
    file = io.BytesIO()
    images = [Image.effect_noise((60, 50), 50) for _ in range(frames)]
    images[0].save(file, "GIF", save_all=True, append_images=images[1:])
    return file.getvalue()


@pytest.mark.parametrize(("frames", "counted"), [(2, 1), (9, 3)])
def test_all_frames_of_a_gif_count(frames, counted):
    assert pixels_in_graph(_animation(frames)).numpy() == 60 * 50 * counted


def test_damaged_headers_neither_fail_nor_hang():
    random = np.random.default_rng(0)
    for kind in ("PNG", "BMP", "GIF", "WebP"):
        whole = _FILES[kind]()
        for _ in range(40):
            damaged = bytearray(whole[: random.integers(4, 400)])
            for _ in range(3):
                damaged[random.integers(4, len(damaged) + 1) - 1] = random.integers(256)
            assert pixels_in_graph(bytes(damaged)).numpy() >= 0
    assert pixels_in_graph(b"").numpy() == 0
    assert pixels_in_graph(b"GIF8").numpy() == 0


def _large_gif():
    """A small screen, and a frame of 20000x20000 on it."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 20_000, 20_000, 0) + b"\x02\x02\x44\x01\x00\x3b"
    return b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6) + frame


@pytest.mark.parametrize("make", [_large_gif, lambda: _encoded("BMP")[:18] + b"\xff\xff\0\0" * 2])
def test_what_claims_too_much_is_not_decoded(make):
    assert pixels_in_graph(make()).numpy() > MAX_IMAGE_PIXELS
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 100000000 pixels"):
        decode_in_graph(make())
