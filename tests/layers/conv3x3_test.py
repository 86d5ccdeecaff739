import numpy as np
import pytest

from tfdet.layers.conv3x3 import conv3x3


@pytest.mark.parametrize(
    ("separable", "use_bias", "numbers"),
    [(True, True, 9 * 4 + 4 * 6 + 6), (True, False, 9 * 4 + 4 * 6), (False, True, 9 * 4 * 6 + 6)],
)
def test_it_keeps_the_size_and_has_the_asked_parts(separable, use_bias, numbers):
    layer = conv3x3(6, separable, use_bias, name="conv")
    assert layer(np.ones((1, 5, 7, 4), "float32")).shape == (1, 5, 7, 6)
    assert layer.count_params() == numbers
