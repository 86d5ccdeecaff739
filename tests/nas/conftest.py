"""Small detectors whose weights make mistakes of inheritance visible."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.ops import math_ops

from tfdet import registry
from tfdet.backbones.encoding import Encoding
from tfdet.nas.weights import put_weights, take_weights


@pytest.fixture(scope="session")
def lively() -> Callable:
    """Makes a small detector on an encoding, with weights that are no symmetric start."""
    return _lively


def _lively(encoding: Encoding, name: str = "faster-rcnn-test", exact: bool = False, seed: int = 0):
    """With `exact` all weights are small whole numbers, so that sums have no rounding.

    Then two networks that are equal in theory are equal bit for bit, in whatever order their
    channels are added up. It takes an encoding without epsilon.
    """
    settings = {"batch_norm": "frozen"} if exact else {}
    model = registry.create(name, backbone=encoding, **settings)
    random = np.random.default_rng(seed)
    fill = _whole if exact else _real
    put_weights(model, {k: fill(k, v.shape, random) for k, v in take_weights(model).items()})
    return model


def _real(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if name.endswith("kernel"):
        return random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
    low, high = (0.5, 1.5) if name.endswith(("gamma", "variance")) else (-0.5, 0.5)
    return random.uniform(low, high, shape).astype(np.float32)


def _whole(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if name.endswith(("gamma", "variance")):
        return np.ones(shape, np.float32)
    if not name.endswith("kernel"):
        return random.integers(-1, 2, shape).astype(np.float32)
    # Four taps of each output: sums stay far below 2 ** 24.
    kernel = np.zeros((int(np.prod(shape[:-1])), shape[-1]), np.float32)
    for column in kernel.T:
        column[random.integers(len(column), size=4)] = random.choice([-1.0, 1.0], 4)
    return kernel.reshape(shape)


@pytest.fixture(scope="session")
def maps() -> Callable:
    """The maps of a detector's feature pyramid for an image of small whole numbers."""

    def run(model: object) -> dict[str, np.ndarray]:
        image = np.random.default_rng(1).integers(0, 3, (1, 64, 64, 3)).astype(np.float32)
        # Some processors' rsqrt(1) is not quite 1, and in the last channels it is; square root
        # and division are rounded correctly everywhere.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(math_ops, "rsqrt", lambda x: 1.0 / tf.sqrt(x))
            features = model.backbone(image, training=False)
            return {name: np.array(x) for name, x in model.neck(features).items()}

    return run
