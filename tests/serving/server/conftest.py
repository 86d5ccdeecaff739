"""A calibrated cascade, exported and served; pictures, good and damaged, for its clients."""

import base64
import io
import pathlib
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from tfdet.data import shapes
from tfdet.detectors.calibration import Calibration
from tfdet.serving import export, verify

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # chromium.py


def _file(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def encode():
    """An image to the bytes of a file."""
    return _file


@pytest.fixture(scope="session")
def b64():
    """Bytes as requests have them."""
    return lambda content: {"b64": base64.b64encode(content).decode()}


@pytest.fixture(scope="session")
def dynamic_folder(make_dynamic, tmp_path_factory):
    """The smallest calibrated cascade, exported as version 3; not compared with the model."""
    model = make_dynamic()
    # A table as a calibration gives it; which images are hard does not matter here.
    scores = np.linspace(0.02, 0.98, 50)
    model.calibration = Calibration.from_scores(scores, model.cost_ends, (1.0, 2.0))
    model.effort = 0.5
    folder = tmp_path_factory.mktemp("served") / "cells"
    (folder / "3").mkdir(parents=True)
    export._save(model, folder / "3", native_ops=False)
    return folder


@pytest.fixture(scope="session")
def samples():
    pictures = shapes.open_shapes("val", 2)
    return [pictures.encoded(i) for i in range(2)]


@pytest.fixture(scope="session")
def pictures():
    """Files that are unusual and yet can be read, by name."""
    scene = verify._crowded_scene(40, 70, seed=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(verify._crowded_scene(30, 30, seed=i)) for i in range(3)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    cmyk = io.BytesIO()
    Image.fromarray(scene).convert("CMYK").save(cmyk, "JPEG")
    return {
        "png": _file(scene),
        "jpeg": _file(scene, "JPEG"),
        "webp": _file(scene, "WEBP"),
        "bmp": _file(scene, "BMP"),
        "one pixel": _file(scene[:1, :1]),
        "20,000 by 3": _file(np.zeros((3, 20_000, 3), np.uint8)),
        "grey": _file(scene[:, :, 0]),
        "16 bit": _file(scene[:, :, 0].astype(np.uint16) * 200),
        "turned": _file(scene, "JPEG", exif=exif),
        "animated gif": animated.getvalue(),
        "cmyk": cmyk.getvalue(),
    }


@pytest.fixture(scope="session")
def damaged(pictures):
    """Files that cannot be used: the status, a word of the reason, and the contents."""
    whole = pictures["png"]
    header = b"IHDR" + (10_000).to_bytes(4, "big") * 2 + whole[24:29]
    bomb = whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]
    return {
        "empty": (400, "not a whole JPEG", b""),
        "text": (400, "not a whole JPEG", b"hello"),
        "truncated png": (400, "damaged", pictures["png"][:-200]),
        "truncated jpeg": (400, "damaged", pictures["jpeg"][:-200]),
        "truncated webp": (400, "not a whole JPEG", pictures["webp"][:-100]),
        "a header alone": (400, "not a whole JPEG", pictures["jpeg"][:20]),
        "100 megapixels": (413, "too large", bomb),
        "a path": (400, "not a whole JPEG", b"/etc/passwd"),
        "an address": (400, "not a whole JPEG", b"http://127.0.0.1/a.png"),
    }
