"""Matching and losses of set prediction, against the published implementation's values."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.losses import set_prediction
from tfdet.losses.set_prediction import NO_MATCH, SetLossConfig, match, set_loss_terms

# Unweighted, as the golden values are.
PLAIN = SetLossConfig(box_weight=1.0, giou_weight=1.0)
TOLERANCE = 2e-5

LABELS = np.array([[1, 3, 0], [4, 1, 4]], np.int32)
BOXES = np.array(
    [
        [[0.30, 0.40, 0.20, 0.30], [0.62, 0.55, 0.40, 0.50], [0.80, 0.20, 0.15, 0.10]],
        [[0.50, 0.50, 0.60, 0.70], [0.25, 0.70, 0.20, 0.20], [0.52, 0.48, 0.55, 0.60]],
    ],
    np.float32,
)
EXTENTS = np.array([[480, 640], [427, 640]], np.float32)


def rule(seed, shape):
    """The numbers that the golden values belong to, in [-1, 1]."""
    j = np.arange(np.prod(shape), dtype=np.int64) + 1009 * seed
    remainder = (31 * j * j + 7919 * j + 104729 * seed + 17) % 10007
    return (2 * remainder / 10007 - 1).reshape(shape)


def predictions():
    r = rule(2001, (2, 7, 4))
    boxes = np.concatenate([0.5 + 0.35 * r[..., :2], 0.3 + 0.2 * r[..., 2:]], axis=-1)
    logits = 3 * rule(2000, (2, 7, 6))
    return {
        "class_logits": tf.constant(logits[:, None], tf.float32),
        "boxes": tf.constant(boxes[:, None], tf.float32),
        "extents": tf.constant(EXTENTS),
    }


def objects(known=(3, 3)):
    """The golden targets in pixels, of which an image keeps the first ones; padded to 5 rows."""
    corners = np.concatenate(
        [BOXES[..., :2] - BOXES[..., 2:] / 2, BOXES[..., :2] + BOXES[..., 2:] / 2], axis=-1
    )
    corners = corners * np.tile(EXTENTS[:, ::-1], 2)[:, None]
    is_known = np.arange(3) < np.array(known)[:, None]
    return {
        "boxes": np.pad(np.where(is_known[..., None], corners, 0), ((0, 0), (0, 2), (0, 0))).astype(
            np.float32
        ),
        "labels": np.pad(
            np.where(is_known, LABELS, -1), ((0, 0), (0, 2)), constant_values=-1
        ).astype(np.int32),
    }


def test_costs_are_the_published_ones():
    raw = predictions()
    found = set_prediction.matching_cost(
        raw["class_logits"][:, 0],
        raw["boxes"][:, 0],
        set_prediction.relative_objects(objects(), raw["extents"]),
        SetLossConfig(),
    )
    expected = [
        [
            [1.946270, 7.382433, 4.045169, 2.182667, 0.346711, 1.028813, 3.053898],
            [5.195023, 2.524075, 0.478046, 2.145923, 3.214157, 2.706378, 0.586249],
            [3.781011, 6.531029, 5.809888, 5.578516, 5.623413, 5.312503, 6.005427],
        ],
        [
            [3.049301, 7.372554, 1.998747, 7.295946, 4.015034, 2.723396, 5.324845],
            [5.331603, 3.690966, 3.934692, 7.105525, 3.675630, 3.537408, 3.695167],
            [2.395305, 6.806703, 1.241585, 6.429269, 3.188321, 1.985106, 4.713789],
        ],
    ]
    np.testing.assert_allclose(found[:, :3], expected, atol=TOLERANCE)


def test_pairs_are_the_published_ones():
    """Of image 1, two objects have the same nearest query."""
    raw, wanted = predictions(), objects()
    relative = set_prediction.relative_objects(wanted, raw["extents"])
    cost = set_prediction.matching_cost(
        raw["class_logits"][:, 0], raw["boxes"][:, 0], relative, SetLossConfig()
    )
    found = match(cost, relative.is_known)
    np.testing.assert_array_equal(found, [[2, -1, 1, -1, 0, -1, -1], [-1, -1, 2, -1, 1, 0, -1]])


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ((3, 3), (2.1459634, 0.4958069, 0.9214190)),
        ((3, 0), (2.2091232, 0.3783605, 1.0240779)),
        ((0, 0), (3.0977958, 0.0, 0.0)),
    ],
)
def test_losses_are_the_published_ones(known, expected):
    terms = set_loss_terms(objects(known), predictions(), PLAIN)
    assert list(terms) == ["class_loss", "box_loss", "giou_loss"]
    assert [float(x) for x in terms.values()] == pytest.approx(expected, abs=TOLERANCE)


def test_gradients_are_the_published_ones():
    raw = predictions()
    with tf.GradientTape() as tape:
        tape.watch(raw)
        total = sum(set_loss_terms(objects(), raw, SetLossConfig()).values())
    assert float(total) == pytest.approx(6.467836, abs=TOLERANCE)
    logits, boxes = (x[:, 0] for x in tape.gradient(total, [raw["class_logits"], raw["boxes"]]))
    assert np.linalg.norm(logits) == pytest.approx(0.323412, abs=TOLERANCE)
    expected = (-0.072093, 0.008774, 0.001066, 0.054199, 0.007091, 0.000963)
    np.testing.assert_allclose(logits[0, 0], expected, atol=TOLERANCE)
    assert np.linalg.norm(boxes) == pytest.approx(5.857027, abs=TOLERANCE)
    expected = (-0.992894, 1.196554, 0.601222, 0.609756)
    np.testing.assert_allclose(boxes[0, 0], expected, atol=TOLERANCE)
    assert not np.any(np.asarray(boxes)[0, [1, 3, 5, 6]])


def best_total(cost, rows):
    """The least cost of giving the rows a column each, or each column a row: all ways are tried."""
    cost = cost[rows]
    if len(rows) > cost.shape[1]:
        cost = cost.T
    columns = itertools.permutations(range(cost.shape[1]), len(cost))
    return min((sum(cost[i, c] for i, c in enumerate(way)) for way in columns), default=0.0)


@st.composite
def costs(draw):
    """A batch [3, M, Q] of costs, many of them equal, and which objects are known."""
    objects, queries = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    seed, levels = draw(st.integers(0, 10_000)), draw(st.sampled_from([2, 5, 1000]))
    random = np.random.default_rng(seed)
    cost = random.integers(-levels, levels, (3, objects, queries)).astype(np.float32)
    return cost, random.random((3, objects)) < draw(st.sampled_from([0.3, 0.8, 1.0]))


@settings(max_examples=60, deadline=None)
@given(costs())
def test_pairs_cost_the_least(case):
    cost, is_known = case
    found = np.asarray(match(cost, is_known))
    for image, (table, known) in enumerate(zip(cost, is_known, strict=True)):
        queries = np.flatnonzero(found[image] != NO_MATCH)
        chosen = found[image][queries]
        assert len(set(chosen)) == len(chosen) == min(known.sum(), table.shape[1])
        assert known[chosen].all()
        total = table[chosen, queries].sum()
        assert total == pytest.approx(best_total(table, np.flatnonzero(known)), abs=1e-4)


def test_matching_in_a_graph_is_that_of_every_image_alone():
    random = np.random.default_rng(0)
    cost = random.normal(size=(20, 12, 30)).astype(np.float32)
    cost[:10] = cost[:10, :1]  # all objects want the same queries
    is_known = random.random((20, 12)) < 0.6
    together = tf.function(match, autograph=False)(cost, is_known)
    for image in range(20):
        alone = match(cost[image : image + 1], is_known[image : image + 1])
        np.testing.assert_array_equal(together[image], alone[0])
    assert match(cost[:0], is_known[:0]).shape == (0, 30)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_end_the_search_too(value):
    cost = np.zeros((2, 4, 5), np.float32)
    cost[0, 1:3] = value
    cost[1] = value
    found = np.asarray(match(cost, np.ones((2, 4), bool)))
    assert (np.sort(found, axis=1) == [-1, 0, 1, 2, 3]).all()


def test_surplus_objects_count_but_match_nothing():
    """Five objects and two queries: the two best pairs, over five objects."""
    raw = predictions()
    raw = {**raw, "class_logits": raw["class_logits"][:, :, :2], "boxes": raw["boxes"][:, :, :2]}
    whole = objects()
    many = {k: np.concatenate([v[:, :3], v[:, :2]], axis=1) for k, v in whole.items()}
    terms = set_loss_terms(many, raw, PLAIN)
    assert all(np.isfinite(float(x)) for x in terms.values())
    relative = set_prediction.relative_objects(many, raw["extents"])
    boxes = raw["boxes"][:, 0]
    cost = set_prediction.matching_cost(raw["class_logits"][:, 0], boxes, relative, SetLossConfig())
    matched = np.asarray(match(cost, relative.is_known))
    wanted = np.take_along_axis(np.asarray(relative.boxes), matched[..., None], axis=1)
    expected = np.abs(wanted - boxes).sum() / 10
    assert float(terms["box_loss"]) == pytest.approx(expected, abs=TOLERANCE)


def test_every_layer_has_its_own_matching_and_all_are_added_up():
    first, wanted = predictions(), objects()
    order = [3, 0, 5, 1, 6, 2, 4]
    mixed = {name: keras.ops.take(first[name], order, axis=2) for name in ("class_logits", "boxes")}
    both = {name: keras.ops.concatenate([mixed[name], first[name]], axis=1) for name in mixed} | {
        "extents": first["extents"]
    }
    alone = set_loss_terms(wanted, first, SetLossConfig())
    together = set_loss_terms(wanted, both, SetLossConfig())
    last = set_loss_terms(wanted, both, SetLossConfig(auxiliary=False))
    for name, value in alone.items():
        assert float(together[name]) == pytest.approx(2 * float(value), abs=TOLERANCE)
        assert float(last[name]) == pytest.approx(float(value), abs=TOLERANCE)


def test_crowds_and_broken_boxes_are_no_objects():
    wanted = objects((3, 2))
    raw = predictions()
    expected = set_loss_terms(wanted, raw, PLAIN)
    crowd = {k: v.copy() for k, v in wanted.items()} | {"is_crowd": np.zeros((2, 5), bool)}
    crowd["boxes"][1, 2:] = [[10, 10, 50, 50], [np.nan, 0, 5, 5], [30, 30, 30, 60]]
    crowd["labels"][1, 2:] = [4, 1, 2]
    crowd["is_crowd"][1, 2] = True
    found = set_loss_terms(crowd, raw, PLAIN)
    assert {k: float(v) for k, v in found.items()} == {k: float(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"box_cost": -1.0}, "loss.box_cost must be at least 0, got -1"),
        ({"giou_weight": float("nan")}, "loss.giou_weight must be at least 0, got nan"),
        ({"no_object_weight": 0.0}, "loss.no_object_weight must be above 0"),
    ],
)
def test_wrong_weights_are_refused(change, said):
    with pytest.raises(UserError, match=said):
        SetLossConfig(**change)
