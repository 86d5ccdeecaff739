import numpy as np
import pytest

from tfdet.heads.roi import BoxHead


@pytest.fixture(scope="module")
def head():
    return BoxHead(3, hidden=16)


def test_each_region_is_read_by_itself(head):
    features = np.random.default_rng(0).normal(size=(2, 5, 4, 4, 6)).astype(np.float32)
    found = head(features)
    assert found["class_logits"].shape == (2, 5, 4) and found["box_codes"].shape == (2, 5, 12)
    assert head.count_params() == (96 * 16 + 16) + (16 * 16 + 16) + 16 * (4 + 12) + 4 + 12
    alone = head(features[1:, 2:3])
    for name, value in found.items():
        np.testing.assert_allclose(value[1:, 2:3], alone[name], atol=1e-5)


def test_fresh_predictions_are_small(head):
    features = np.random.default_rng(1).normal(size=(4, 50, 4, 4, 6)).astype(np.float32)
    found = {name: np.asarray(value) for name, value in head(features).items()}
    # Normal kernels of 0.01 and 0.001: no class is believed, no box is moved.
    assert 3 < found["class_logits"].std() / found["box_codes"].std() < 30
    assert np.abs(found["box_codes"]).max() < 0.1
