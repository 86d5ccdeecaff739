"""What the tests of packing share: pyramids, random layouts, and packing in slow NumPy."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops import pack as pack_ops
from tfdet.ops import pack_native

DTYPES = pack_native.DTYPES


def require_native() -> None:
    """Skips where the native op cannot have been built; elsewhere it must be there."""
    if not pack_native.library_path().is_file() and shutil.which("c++") is None:
        pytest.skip("no native pack op, and no C++ compiler to build it")


def level_sizes(height, width, num_levels=5, stride=8):
    sizes = [(-(-height // stride), -(-width // stride))]
    while len(sizes) < num_levels:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def random_maps(layout, batch=2, channels=3, dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    shapes = [(batch, h, w, channels) for h, w in layout.sizes]
    return [tf.cast(random.normal(size=shape), dtype) for shape in shapes]


def random_layout(random, most=20):
    """Boxes left over from cutting a canvas at random and dropping some of the parts."""
    height, width = random.integers(1, 30, size=2)
    parts, done = [(0, 0, int(width), int(height))], []
    while parts:
        x0, y0, x1, y1 = parts.pop()
        cuts = [axis for axis, side in enumerate((x1 - x0, y1 - y0)) if side > 1]
        if not cuts or random.random() < 0.2:
            done.append((x0, y0, x1, y1))
        elif random.choice(cuts) == 0:
            at = int(random.integers(x0 + 1, x1))
            parts += [(x0, y0, at, y1), (at, y0, x1, y1)]
        else:
            at = int(random.integers(y0 + 1, y1))
            parts += [(x0, y0, x1, at), (x0, at, x1, y1)]
    random.shuffle(done)
    kept = done[: int(random.integers(1, min(len(done), most) + 1))]
    return pack_ops.Layout(int(height), int(width), tuple(kept), tuple(range(len(kept))))


def slowly_packed(maps, layout):
    """Copies map by map into zeros, in NumPy."""
    batch, _, _, channels = maps[0].shape
    packed = np.zeros((batch, layout.height, layout.width, channels), maps[0].numpy().dtype)
    for (x0, y0, x1, y1), x in zip(layout.boxes, maps, strict=True):
        packed[:, y0:y1, x0:x1] = x.numpy()
    return packed


def assert_same_bits(x, y):
    x, y = np.asarray(x), np.asarray(y)
    assert x.dtype == y.dtype and x.shape == y.shape
    np.testing.assert_array_equal(x.view(np.uint8), y.view(np.uint8))
