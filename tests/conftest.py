"""What tests of several folders share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_SHARED = Path(__file__).parents[2] / "shared" / "data"


def _data_directory(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable) or _SHARED / name)
    if not path.is_dir():
        pytest.skip(f"{path} is absent; set {variable} to run this test")
    return path


@pytest.fixture(scope="session")
def bccd() -> Path:
    """Directory of the BCCD blood cells in VOC form."""
    return _data_directory("TFDET_BCCD", "bccd")


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    """Directory of a few COCO 2017 images in COCO's own layout."""
    return _data_directory("TFDET_COCO_TINY", "coco_tiny")
