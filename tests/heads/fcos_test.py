import numpy as np
import pytest

from tfdet.heads.fcos import FCOSHead

SIZES = {"P3": 4, "P4": 2}


def maps():
    rng = np.random.default_rng(0)
    return {k: rng.normal(size=(2, n, n, 8)).astype(np.float32) for k, n in SIZES.items()}


def made(**options):
    head = FCOSHead(3, filters=8, repeats=1, groups=2, **options)
    head(maps())
    head.predictor.box_conv.kernel.assign(10 * np.asarray(head.predictor.box_conv.kernel))
    return head


@pytest.mark.parametrize("normalized", [True, False])
def test_each_level_has_a_scale_of_its_own(normalized):
    head = made(normalize_distances=normalized)
    before = np.asarray(head(maps())["box_distances"])
    head.scales.assign([1.0, 3.0])
    after = np.asarray(head(maps())["box_distances"])
    np.testing.assert_array_equal(after[:, :16], before[:, :16])
    expected = 3 * before[:, 16:] if normalized else before[:, 16:] ** 3
    np.testing.assert_allclose(after[:, 16:], expected, rtol=1e-4)
    assert before.min() >= 0 and np.unique(before).size > 20


def test_a_fresh_head_finds_every_class_improbable():
    found = made()(maps())
    probabilities = 1 / (1 + np.exp(-np.asarray(found["class_logits"])))
    assert probabilities.mean() == pytest.approx(0.01, rel=0.2)
    assert found["centerness_logits"].shape == (2, 20)


@pytest.mark.parametrize("tower", ["class", "box"])
def test_centerness_is_read_from_its_tower(tower):
    head = made(centerness=tower)
    before = {k: np.asarray(v) for k, v in head(maps()).items()}
    for block in getattr(head.predictor, f"{tower}_tower"):
        for variable in block.trainable_weights:
            variable.assign(np.asarray(variable) + 0.5)
    after = head(maps())
    assert np.abs(after["centerness_logits"] - before["centerness_logits"]).max() > 1e-4
    other = "box_distances" if tower == "class" else "class_logits"
    np.testing.assert_array_equal(after[other], before[other])
