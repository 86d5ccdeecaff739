"""A node computes its block once, and of its paths those that are wanted."""

import keras
import numpy as np
import pytest

from tfdet.backbones.grid import SupernetConfig
from tfdet.backbones.grid_node import GridNode

CONFIG = {"layers": 3, "channels": (4, 6, 8), "stem_filters": (3, 4, 4)}
PATHS = ("keep", "up", "down")
X = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)
GATES = np.array([[1, 0.5, 0.2], [0, 1, 0]], np.float32)


def make(**changes):
    keras.utils.set_random_seed(0)
    return GridNode(SupernetConfig(**CONFIG, **changes), 1, PATHS)


@pytest.mark.parametrize("up", ["conv_resize", "resize_conv"])
@pytest.mark.parametrize("keep", ["identity", "relu", "conv"])
def test_paths_lead_to_the_sizes_and_widths_of_their_scales(keep, up):
    node = make(keep=keep, up=up)
    sent = node({"x": X, "gates": GATES}, up_size=(5, 9))
    shapes = {name: tuple(x.shape) for name, x in sent.items()}
    assert shapes == {"keep": (2, 3, 5, 6), "up": (2, 5, 9, 4), "down": (2, 2, 3, 8)}
    assert {name: x.shape[1:3] for name, x in node({"x": X, "gates": GATES}).items()}["up"] == (
        6,
        10,
    )
    # Negative numbers pass where nothing is asked of them, and there alone.
    assert (np.min(sent["keep"]) < 0) == (keep == "identity")
    assert min(np.min(sent["up"]), np.min(sent["down"])) >= 0


@pytest.mark.parametrize("keep", ["identity", "relu"])
def test_a_gate_is_a_factor_of_its_image(keep):
    node = make(keep=keep)
    sent = node({"x": X, "gates": GATES})
    whole = node({"x": X, "gates": np.ones_like(GATES)})
    for i, name in enumerate(PATHS):
        gate = GATES[:, i].reshape(2, 1, 1, 1)
        np.testing.assert_allclose(sent[name], whole[name] * gate, rtol=1e-5, atol=1e-6)


def test_only_wanted_paths_are_computed(monkeypatch):
    node = make()
    expected = node({"x": X, "gates": GATES})
    monkeypatch.setattr(node.paths["up"], "call", None)
    found = node({"x": X, "gates": GATES}, wanted=("keep", "down"))
    assert list(found) == ["keep", "down"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])


def test_the_configuration_comes_back():
    node = make(keep="conv")
    again = GridNode.from_config(node.get_config())
    assert again.get_config() == node.get_config()
