"""RoIAlign against a plain implementation, point by point."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tfdet.ops import roi_align as roi_ops

SIZES = {"P2": (13, 18), "P3": (7, 9), "P4": (4, 5)}
IMAGE = (52, 72)


def maps(batch=2, channels=3, dtype=np.float32):
    rng = np.random.default_rng(1)
    return {
        name: rng.normal(size=(batch, *size, channels)).astype(dtype)
        for name, size in SIZES.items()
    }


def boxes(kind, count=5):
    rng = np.random.default_rng(len(kind))
    corner = rng.uniform(0, 40, (2, count, 2))
    extent = {
        "inside": rng.uniform(2, 30, (2, count, 2)),
        "outside": rng.uniform(2, 60, (2, count, 2)),
        "tiny": rng.uniform(0, 0.01, (2, count, 2)),
        "huge": rng.uniform(100, 900, (2, count, 2)),
        "inverted": rng.uniform(-20, 0, (2, count, 2)),
        "empty": np.zeros((2, count, 2)),
    }[kind]
    if kind in ("outside", "huge"):
        corner = rng.uniform(-90, 90, (2, count, 2))
    return np.concatenate([corner, corner + extent], axis=-1).astype(np.float32)


def point(feature, y, x):
    """A bilinear sample of one map [H, W, C], as Detectron has it."""
    height, width, _ = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(feature.shape[-1])
    y, x = max(y, 0), max(x, 0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = (0 if y0 == y1 else y - y0), (0 if x0 == x1 else x - x0)
    upper = feature[y0, x0] * (1 - fx) + feature[y0, x1] * fx
    lower = feature[y1, x0] * (1 - fx) + feature[y1, x1] * fx
    return upper * (1 - fy) + lower * fy


def plain(features, rois, levels, size, ratio, aligned=True):
    batch, count = rois.shape[:2]
    out = np.zeros((batch, count, *size, features["P2"].shape[-1]))
    for b, n in np.ndindex(batch, count):
        feature = features[f"P{levels[b, n]}"][b].astype(np.float64)
        shift, least = (0.5, -np.inf) if aligned else (0.0, 1.0)
        left, top, right, bottom = rois[b, n].astype(np.float64) / 2.0 ** levels[b, n] - shift
        bin_h = max(bottom - top, least) / size[0]
        bin_w = max(right - left, least) / size[1]
        rows, columns = (ratio or max(math.ceil(x), 1) for x in (bin_h, bin_w))
        for i, j in np.ndindex(*size):
            samples = [
                point(feature, top + (i + p) * bin_h, left + (j + q) * bin_w)
                for p in (np.arange(rows) + 0.5) / rows
                for q in (np.arange(columns) + 0.5) / columns
            ]
            out[b, n, i, j] = np.mean(samples, axis=0)
    return out


def levels_of(rois):
    return np.array(roi_ops.region_levels(rois, 2, 4, canonical=10.0))


@pytest.fixture(params=["native", "portable"])
def implementation(request, monkeypatch):
    if request.param == "portable":
        monkeypatch.setattr(roi_ops, "_crop", roi_ops._gather)


@pytest.mark.parametrize("kind", ["inside", "outside", "tiny", "huge", "inverted", "empty"])
@pytest.mark.parametrize(("size", "ratio"), [((3, 2), 2), ((2, 3), 1), ((2, 2), 3), ((3, 3), 0)])
def test_equals_the_plain_implementation(implementation, kind, size, ratio):
    rois = boxes(kind)
    levels = levels_of(rois)
    if kind == "inverted":
        levels[:] = 3
    found = roi_ops.roi_align(maps(), rois, levels, size, ratio)
    np.testing.assert_allclose(
        found, plain(maps(), rois, levels, size, ratio), atol=5e-4 if kind == "huge" else 5e-5
    )


@pytest.mark.parametrize("kind", ["inside", "outside", "tiny", "inverted"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_the_form_that_is_not_aligned(implementation, kind, ratio):
    rois = boxes(kind)
    levels = levels_of(rois)
    if kind == "inverted":
        levels[:] = 3
    found = roi_ops.roi_align(maps(), rois, levels, (3, 2), ratio, aligned=False)
    expected = plain(maps(), rois, levels, (3, 2), ratio, aligned=False)
    np.testing.assert_allclose(found, expected, atol=5e-5)


@hypothesis.given(
    finest=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    depth=st.integers(1, 4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ratio=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_any_boxes_on_any_pyramid(finest, depth, size, ratio, seed):
    rng = np.random.default_rng(seed)
    features = {
        f"P{level}": rng.normal(size=(2, *(-(-side // 2**step) for side in finest), 2))
        for step, level in enumerate(range(2, 2 + depth))
    }
    features = {name: x.astype(np.float32) for name, x in features.items()}
    # Corners and sides of every order of magnitude, also far beyond the maps.
    corner = rng.uniform(-1.5, 1.5, (2, 6, 2)) * 10 ** rng.uniform(0, 2.5, (2, 6, 1))
    extent = 10 ** rng.uniform(-4, 2, (2, 6, 2))
    rois = np.concatenate([corner, corner + extent], axis=-1).astype(np.float32)
    levels = rng.integers(2, 2 + depth, (2, 6)).astype(np.int32)
    found = roi_ops.roi_align(features, rois, levels, size, ratio)
    np.testing.assert_allclose(found, plain(features, rois, levels, size, ratio), atol=2e-3)


def test_boxes_that_are_not_finite_count_as_a_point():
    rois = boxes("inside")
    rois[0, 0, 1], rois[1, 2, 2] = np.nan, np.inf
    good = rois.copy()
    good[0, 0] = good[1, 2] = 0
    levels = np.full(rois.shape[:2], 2)
    found = [np.array(roi_ops.roi_align(maps(), x, levels, (2, 2))) for x in (rois, good)]
    np.testing.assert_array_equal(*found)


def test_a_constant_map_stays_constant_in_half_precision(implementation):
    features = {name: np.full((1, *size, 2), 3, np.float16) for name, size in SIZES.items()}
    rois = np.array([[[4, 4, 40, 30], [0, 0, 72, 52]]], np.float32)
    found = roi_ops.roi_align(features, rois, levels_of(rois))
    assert found.dtype == "float16" and np.all(np.array(found) == 3)


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradients_reach_the_maps_and_only_them(implementation, ratio):
    features = {name: tf.Variable(x) for name, x in maps(1, 2).items()}
    rois = tf.Variable(boxes("outside", 5)[:1])
    levels = levels_of(rois)
    weights = np.random.default_rng(0).normal(size=(1, 5, 2, 2, 2)).astype(np.float32)

    def value():
        values = {name: tf.convert_to_tensor(x) for name, x in features.items()}
        return tf.reduce_sum(weights * roi_ops.roi_align(values, rois, levels, (2, 2), ratio))

    with tf.GradientTape() as tape:
        result = value()
    gradients = tape.gradient(result, [*features.values(), rois])
    assert gradients[-1] is None
    # The function is linear in the maps: any step gives the exact difference.
    for variable, gradient in zip(features.values(), gradients, strict=False):
        direction = np.random.default_rng(3).normal(size=variable.shape).astype(np.float32)
        variable.assign_add(direction)
        expected = float(value() - result)
        variable.assign_sub(direction)
        assert float(tf.reduce_sum(gradient * direction)) == pytest.approx(expected, abs=1e-3)


def test_shapes_are_fixed_in_a_graph():
    spec = {name: tf.TensorSpec([None, *size, 3]) for name, size in SIZES.items()}

    @tf.function(autograph=False)
    def run(features, rois):
        return roi_ops.roi_align(features, rois, roi_ops.region_levels(rois, 2, 4))

    concrete = run.get_concrete_function(spec, tf.TensorSpec([None, 6, 4]))
    assert concrete.structured_outputs.shape.as_list() == [None, 6, 7, 7, 3]


def test_levels_double_with_the_side():
    sides = np.array([0, 10, 56, 111.9, 112, 223, 224, 448, 5000], np.float32)
    rois = np.stack([sides * 0, sides * 0, sides, sides], axis=-1)
    levels = np.array(roi_ops.region_levels(rois, 2, 5))
    np.testing.assert_array_equal(levels, [2, 2, 2, 2, 3, 3, 4, 5, 5])


def test_the_maps_of_a_canvas_do_not_overlap():
    sizes = [(5, 4), (3, 2), (2, 1), (1, 1)]
    canvas = roi_ops.layout(sizes)
    taken = np.zeros(canvas.shape, int)
    for (y, x), (height, width) in zip(canvas.origin.astype(int), sizes, strict=True):
        taken[y - 1 : y + height + 1, x - 1 : x + width + 1] += 1
    assert taken.max() == 1 and taken.sum() == sum((h + 2) * (w + 2) for h, w in sizes)
