import numpy as np
import pytest
from pycocotools import mask as coco_masks

from tfdet.data import run_lengths


@pytest.mark.parametrize("seed", range(5))
def test_compressed_masks_are_read_as_pycocotools_wrote_them(seed):
    random = np.random.default_rng(seed)
    pixels = np.asfortranarray(random.random((30, 41)) < 0.1 + 0.2 * seed, np.uint8)
    mask = coco_masks.encode(pixels)
    column = np.concatenate([[0], pixels.T.reshape(-1), [-1]])
    edges = np.flatnonzero(np.diff(column))
    runs = np.diff(np.concatenate([[0], edges])).tolist()
    assert run_lengths.decode(mask["counts"]) == runs
    text = mask["counts"].decode()
    assert run_lengths.fits({"size": [30, 41], "counts": text}, (30, 41))
    assert run_lengths.fits({"size": [30, 41], "counts": runs}, np.array([30, 41]))


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"size": [4, 6]},
        {"size": [4, 6], "counts": []},
        {"size": [6, 4], "counts": [24]},
        {"size": [4, 6], "counts": [25]},
        {"size": [4, 6], "counts": [10**12]},
        {"size": [4, 6], "counts": [30, -6]},
        {"size": [4, 6], "counts": [24.0]},
        {"size": [4, 6], "counts": ["24"]},
        {"size": [4, 6], "counts": "~~~"},
        {"size": [4, 6], "counts": "oooooooooooo"},
        {"size": [4, 6], "counts": "\u00e4"},
        {"size": "4x6", "counts": [24]},
    ],
)
def test_masks_that_cannot_be(mask):
    assert not run_lengths.fits(mask, (4, 6))
