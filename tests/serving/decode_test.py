"""Tests of decoding inside the graph."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfdet.data.decode import decode_image
from tfdet.serving import decode


def _picture():
    y, x = np.mgrid[:30, :47]
    return np.stack([5 * y, 5 * x, 100 + 0 * x], -1).astype(np.uint8)


def _jpeg(orientation=None, big_endian=False):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "a camera with a name longer than four bytes"
    if orientation is not None:
        exif[0x0112] = orientation
    exif.endian = ">" if big_endian else "<"
    data = exif.tobytes()
    assert data[6:8] == (b"MM" if big_endian else b"II")
    Image.fromarray(_picture()).save(file, "JPEG", quality=95, exif=data)
    return file.getvalue()


decode_in_graph = tf.function(
    decode.decode_upright, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)
orientation_in_graph = tf.function(
    decode.jpeg_orientation, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_as_pillow_turns_it(orientation, big_endian):
    encoded = _jpeg(orientation, big_endian)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    found = decode_in_graph(encoded).numpy()
    assert found.shape == upright.shape
    # Two JPEG decoders agree within some grey levels; a wrong turn is off by up to 235.
    assert np.abs(found.astype(int) - upright).max() < 12


@pytest.mark.parametrize("orientation", [None, 0, 9, 77])
def test_missing_or_odd_orientation_changes_nothing(orientation):
    assert orientation_in_graph(_jpeg(orientation)).numpy() == 1


def test_orientation_is_found_behind_other_segments():
    encoded = _jpeg(6)
    other = b"\xff\xe2" + (60_000).to_bytes(2, "big") + bytes(59_998)
    assert orientation_in_graph(encoded[:2] + 3 * other + encoded[2:]).numpy() == 6


def test_damaged_headers_neither_fail_nor_hang():
    encoded = _jpeg(6)
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(encoded[: random.integers(2, 200)])
        for _ in range(3):
            damaged[random.integers(len(damaged))] = random.integers(256)
        assert 1 <= orientation_in_graph(bytes(damaged)).numpy() <= 8
    assert orientation_in_graph(b"").numpy() == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_png_of_any_mode_gives_rgb(mode):
    file = io.BytesIO()
    Image.fromarray(_picture()).convert(mode).save(file, "PNG")
    found = decode_in_graph(file.getvalue()).numpy()
    expected = np.asarray(Image.open(file).convert("RGB"))
    assert (found == expected).all()


def _encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(_picture()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _deep_png():
    file = io.BytesIO()
    Image.fromarray(_picture()[..., 0].astype(np.uint16) * 257).save(file, "PNG")
    return file.getvalue()


_FILES = {
    "JPEG": lambda: _encoded("JPEG"),
    "grey JPEG": lambda: _encoded("JPEG", "L"),
    "CMYK JPEG": lambda: _encoded("JPEG", "CMYK"),
    "progressive JPEG": lambda: _encoded("JPEG", progressive=True, subsampling=2),
    "PNG": lambda: _encoded("PNG"),
    "grey PNG": lambda: _encoded("PNG", "L"),
    "palette PNG": lambda: _encoded("PNG", "P"),
    "bilevel PNG": lambda: _encoded("PNG", "1"),
    "PNG with alpha": lambda: _encoded("PNG", "RGBA"),
    "grey PNG with alpha": lambda: _encoded("PNG", "LA"),
    "16-bit PNG": _deep_png,
    "PNG with EXIF": lambda: _encoded("PNG", exif=_turned(6)),
    "WebP with EXIF": lambda: _encoded("WEBP", exif=_turned(6)),
    "GIF": lambda: _encoded("GIF"),
    "BMP": lambda: _encoded("BMP"),
    "WebP": lambda: _encoded("WEBP"),
    **{f"EXIF {turn}": lambda turn=turn: _jpeg(turn) for turn in range(10)},
    **{f"EXIF {turn}, big end first": lambda turn=turn: _jpeg(turn, True) for turn in range(10)},
}


@pytest.mark.parametrize("kind", _FILES)
def test_training_and_serving_see_equal_pixels(kind):
    encoded = _FILES[kind]()
    np.testing.assert_array_equal(decode_in_graph(encoded), decode_image(encoded))
