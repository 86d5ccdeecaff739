import hypothesis
import numpy as np
from hypothesis import strategies as st

from tfdet.ops import sampling


def test_noise_is_uniform_and_follows_from_its_seeds():
    values = np.array(sampling.noise((40, 500), 3, 7))
    assert values.shape == (40, 500) and values.min() >= 0 and values.max() < 1
    histogram = np.histogram(values, 10, (0, 1))[0]
    assert np.all(np.abs(histogram - 2000) < 5 * np.sqrt(2000))
    np.testing.assert_array_equal(values, sampling.noise((40, 500), 3, 7))
    for seeds in ((7, 3), (3, 8), (4, 7), (3,)):
        other = np.array(sampling.noise((40, 500), *seeds))
        assert abs(np.corrcoef(values.ravel(), other.ravel())[0, 1]) < 0.04
    neighbours = np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.04


@hypothesis.given(
    kinds=st.lists(st.sampled_from("pni"), min_size=1, max_size=24),
    count=st.integers(1, 24),
    share=st.integers(0, 24),
    seed=st.integers(0, 100),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_choices_have_the_wanted_kinds(kinds, count, share, seed):
    count = min(count, len(kinds))
    share = min(share, count)
    kinds = np.array([kinds, kinds[::-1]])
    positive, negative = kinds == "p", kinds == "n"
    noise = sampling.noise(kinds.shape, seed)
    index, is_valid = map(np.array, sampling.choose(positive, negative, count, share, noise))
    assert index.shape == is_valid.shape == (2, count)
    for row in range(2):
        chosen = index[row, is_valid[row]]
        assert len(set(chosen)) == len(chosen)
        positives = min(positive[row].sum(), share)
        assert positive[row, chosen].sum() == positives
        assert negative[row, chosen].sum() == min(negative[row].sum(), count - positives)
        assert np.all(is_valid[row, :-1] >= is_valid[row, 1:])


def test_all_rows_of_a_kind_are_chosen_alike():
    times = np.zeros(10)
    for seed in range(200):
        noise = sampling.noise((1, 10), seed)
        index, _ = sampling.choose(np.ones((1, 10), bool), np.zeros((1, 10), bool), 3, 3, noise)
        times[np.array(index)] += 1
    assert times.min() > 35 and times.max() < 90
