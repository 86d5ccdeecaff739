import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tfdet.data import decode
from tfdet.data.decode import ImageError, decode_image, displayed_size, header


def _picture(height=24, width=40) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_as_viewers_do(orientation):
    encoded = _encode(_picture(), exif=_exif(orientation), quality=95, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    pixels = decode_image(encoded)
    assert pixels.shape == upright.shape
    assert pixels.shape[:2] == displayed_size(encoded)
    # The two JPEG decoders round differently by a few levels.
    assert np.abs(pixels.astype(int) - upright).max() <= 8


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_orientation_outside_of_the_standard_is_ignored(orientation):
    encoded = _encode(_picture(), exif=_exif(orientation))
    assert header(encoded) == ((24, 40), 1)


def test_boxes_drawn_on_the_stored_pixels_keep_them():
    encoded = _encode(_picture(), exif=_exif(6))
    assert decode_image(encoded).shape == (40, 24, 3)
    assert decode_image(encoded, annotated_size=(40, 24)).shape == (40, 24, 3)
    assert decode_image(encoded, annotated_size=(24, 40)).shape == (24, 40, 3)


def test_square_images_are_always_turned():
    encoded = _encode(_picture(32, 32), exif=_exif(6))
    plain = decode_image(_encode(_picture(32, 32)))
    np.testing.assert_array_equal(decode_image(encoded, (32, 32)), np.rot90(plain, -1))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_every_png_mode_gives_three_channels(mode):
    encoded = _encode(_picture().convert(mode), "PNG")
    assert decode_image(encoded).shape == (24, 40, 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP"])
def test_other_formats_are_decoded(kind):
    pixels = decode_image(_encode(_picture(), kind))
    assert pixels.shape == (24, 40, 3) and pixels.dtype == np.uint8


def test_cmyk_jpeg_and_16_bit_png_are_decoded():
    assert decode_image(_encode(_picture().convert("CMYK"))).shape == (24, 40, 3)
    deep = Image.fromarray(np.full((24, 40), 40000, np.uint16))
    np.testing.assert_allclose(decode_image(_encode(deep, "PNG")), 40000 / 257, atol=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_image_is_told(kind):
    encoded = _encode(_picture(200, 200), kind)
    with pytest.raises(ImageError) as caught:
        decode_image(encoded[: len(encoded) // 2])
    assert caught.value.kind == "truncated_image"


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_told(content):
    with pytest.raises(ImageError) as caught:
        decode_image(content)
    assert caught.value.kind == "unreadable_image"


def test_tiff_is_refused_with_the_formats_that_work():
    with pytest.raises(ImageError, match="JPEG, PNG") as caught:
        decode_image(_encode(_picture(), "TIFF"))
    assert caught.value.kind == "unreadable_image"


def _bomb(side: int) -> bytes:
    """A PNG whose header claims side x side pixels."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [60000, 10001])
def test_too_many_pixels_are_refused_before_decoding(side, monkeypatch):
    monkeypatch.setattr(decode.tf.io, "decode_image", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ImageError) as caught:
        decode_image(_bomb(side))
    assert caught.value.kind == "oversized_image"


def test_header_reads_files_and_contents_alike(tmp_path):
    encoded = _encode(_picture(), exif=_exif(3))
    (tmp_path / "x.jpg").write_bytes(encoded)
    assert header(str(tmp_path / "x.jpg")) == header(encoded) == ((24, 40), 3)


def test_pillow_is_quiet_about_what_has_a_limit_here():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        decode.hush_pillow()
        assert header(_bomb(9500)) == ((9500, 9500), 1)
    assert said == []


def test_animated_webp_is_no_truncated_image():
    moving = _encode(_picture(), "WEBP", save_all=True, append_images=[_picture().rotate(180)])
    with pytest.raises(ImageError) as caught:
        decode_image(moving)
    assert caught.value.kind == "animated_image"


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (40, 60, (40, 60)),
        (40.0, 60.9, (40, 60)),
        (0, 60, None),
        (-1, 60, None),
        (0.5, 60, None),
        (float("nan"), 60, None),
        (float("inf"), 60, None),
        (20_000, 20_000, None),
        (2_000_000, 1, None),
    ],
)
def test_annotated_sizes_that_can_be(height, width, size):
    assert decode.as_size(height, width) == size
