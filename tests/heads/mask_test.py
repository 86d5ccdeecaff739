import numpy as np

from tfdet.heads.mask import MaskHead


def test_masks_are_twice_as_large_as_the_features_and_one_per_class():
    head = MaskHead(3, filters=6, repeats=2)
    features = np.random.default_rng(0).normal(size=(2, 5, 7, 7, 4)).astype(np.float32)
    found = np.asarray(head(features))
    assert found.shape == (2, 5, 14, 14, 3)
    assert head.count_params() == (
        (9 * 4 * 6 + 6) + (9 * 6 * 6 + 6) + (4 * 6 * 6 + 6) + (6 * 3 + 3)
    )
    alone = np.asarray(head(features[1:, 3:4]))
    np.testing.assert_allclose(found[1:, 3:4], alone, atol=1e-5)
