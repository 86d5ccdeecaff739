import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.losses.roi import (
    CODE_WEIGHTS,
    RoILossConfig,
    Samples,
    box_head_loss_terms,
    sample_proposals,
)
from tfdet.ops import boxes as box_ops

OBJECTS = np.array([[[4, 6, 40, 44], [30, 20, 60, 62], [0, 0, 9, 9]]] * 2, np.float32)
LABELS = np.array([[1, 2, -1], [-1, -1, -1]], np.int32)
TARGETS = {"boxes": OBJECTS, "labels": LABELS}


def proposals(count=30, seed=0):
    rng = np.random.default_rng(seed)
    near = OBJECTS[:, rng.integers(0, 2, count)] + rng.normal(0, 4, (2, count, 4))
    return near.astype(np.float32), rng.random((2, count)) < 0.8


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), samples=st.sampled_from([4, 12, 60]))
def test_samples_are_what_the_matching_says(seed, count, samples):
    boxes, is_proposal = proposals(count, seed)
    config = RoILossConfig(samples=samples)
    chosen = Samples(*map(np.array, sample_proposals(TARGETS, boxes, is_proposal, config, (seed,))))
    everything = np.concatenate([boxes, OBJECTS * (LABELS >= 0)[..., None]], axis=1)
    for b in range(2):
        usable = everything[b][np.concatenate([is_proposal[b], LABELS[b] >= 0])]
        iou = np.array(box_ops.iou(usable, OBJECTS[b] * (LABELS[b] >= 0)[:, None]))
        positives = (iou.max(axis=1) >= 0.5).sum()
        is_positive = chosen.labels[b] >= 0
        assert is_positive.sum() == min(positives, config.max_positives)
        wanted = min(len(usable) - positives, samples - is_positive.sum())
        assert (chosen.is_sampled[b] & ~is_positive).sum() == wanted
        assert np.all(is_positive[: is_positive.sum()])
        for box, label, target, row in zip(*(x[b, is_positive] for x in chosen[:4]), strict=True):
            overlaps = np.array(box_ops.iou(box[None], OBJECTS[b]))[0]
            assert overlaps[row] == overlaps[LABELS[b] >= 0].max() >= 0.5
            assert label == LABELS[b, row]
            np.testing.assert_array_equal(target, OBJECTS[b, row])
        assert np.all(chosen.objects[b][~is_positive] == -1)


def test_the_choice_follows_from_the_seeds():
    boxes, is_proposal = proposals()
    config = RoILossConfig(samples=8)
    first, same, other = (
        np.array(sample_proposals(TARGETS, boxes, is_proposal, config, seeds).boxes)
        for seeds in ((3, 5), (3, 5), (3, 6))
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


def losses(predictions, samples):
    return {k: float(v) for k, v in box_head_loss_terms(predictions, samples).items()}


def test_only_the_codes_of_the_own_class_count():
    boxes, is_proposal = proposals()
    samples = sample_proposals(TARGETS, boxes, is_proposal, RoILossConfig(samples=16), (0,))
    labels = np.array(samples.labels)
    codes = np.full((*labels.shape, 3, 4), 77, np.float32)
    wanted = np.array(box_ops.encode(samples.target_boxes, samples.boxes)) * CODE_WEIGHTS
    logits = np.full((*labels.shape, 4), -30, np.float32)
    for place in np.ndindex(labels.shape):
        logits[(*place, labels[place])] = 30  # -1, the last one, is the background
        if labels[place] >= 0:
            codes[(*place, labels[place])] = wanted[place]
    predictions = {"class_logits": logits, "box_codes": codes.reshape(2, 16, 12)}
    assert losses(predictions, samples) == pytest.approx({"class_loss": 0, "box_loss": 0}, abs=1e-5)
    predictions["box_codes"] = predictions["box_codes"] + 1
    expected = 4 * (labels >= 0).sum() / np.array(samples.is_sampled).sum()
    assert losses(predictions, samples)["box_loss"] == pytest.approx(expected, rel=1e-4)
    predictions["class_logits"] = logits * 0
    assert losses(predictions, samples)["class_loss"] == pytest.approx(np.log(4), rel=1e-5)


def test_nothing_to_learn_from_costs_nothing():
    none = {"boxes": OBJECTS, "labels": np.full((2, 3), -1, np.int32)}
    samples = sample_proposals(
        none, np.zeros((2, 5, 4), np.float32), np.zeros((2, 5), bool), RoILossConfig(), (0,)
    )
    assert not np.any(samples.is_sampled)
    predictions = {
        "class_logits": np.ones((2, 8, 4), np.float32),
        "box_codes": np.ones((2, 8, 12), np.float32),
    }
    assert losses(predictions, samples) == {"class_loss": 0, "box_loss": 0}
