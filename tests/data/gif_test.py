"""Tests of the frames of GIFs."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tfdet.data import decode, gif


def _animation(frames):
    file = io.BytesIO()
    images = [Image.effect_noise((60, 50), 50) for _ in range(frames)]
    images[0].save(file, "GIF", save_all=True, append_images=images[1:])
    return file.getvalue()


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_all_frames_count(frames):
    assert gif.frame_pixels(_animation(frames)) == 60 * 50 * frames


def test_damage_neither_fails_nor_hangs():
    whole, random = _animation(3), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole[: random.integers(0, len(whole))])
        for _ in range(min(3, len(damaged))):
            damaged[random.integers(len(damaged))] = random.integers(256)
        assert gif.frame_pixels(bytes(damaged)) >= 0


def test_a_gif_of_too_many_large_frames_is_not_decoded():
    """Each frame is within the bound, and so is what is shown of it."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 9_000, 9_000, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 9_000, 9_000, 0x80, 0, 0) + bytes(6)
    with pytest.raises(decode.ImageError, match="all its frames") as error:
        decode.decode_image(head + 4 * frame + b"\x3b")
    assert error.value.kind == "oversized_image"
