import keras
import numpy as np

from tfdet.layers.composite import Composite
from tfdet.layers.conv_bn import ConvBN
from tfdet.layers.implicit import ImplicitMultiply
from tfdet.layers.merging import copy_merged


class Net(Composite):
    """Something to merge, something to copy, and something that is for training alone."""

    def __init__(self, merged, **kwargs):
        super().__init__(**kwargs)
        self.helper = None if merged else keras.layers.Dense(3, name="helper")
        self.convs = [ConvBN(4, 3, merged=merged, name=f"conv_{i}") for i in range(2)]
        self.scale = ImplicitMultiply(name="scale")

    def call(self, x):
        if self.helper is not None:
            self.helper(x)
        for conv in self.convs:
            x = conv(x)
        return self.scale(x)


def test_layers_are_found_by_name_merged_or_copied():
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 2)).astype(np.float32)
    trained, merged, again = Net(False), Net(True), Net(True)
    for net in (trained, merged, again):
        net(x)
    for variable in trained.weights:
        variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    copy_merged(trained, merged)
    # Sums of numbers of about 1, some of which cancel out.
    np.testing.assert_allclose(merged(x), trained(x), rtol=1e-5, atol=2e-6)
    copy_merged(merged, again)
    np.testing.assert_array_equal(again(x), merged(x))
