"""The supernet as a classifier: what it reads, and what it minimises."""

import keras
import numpy as np
import pytest

from tfdet import registry
from tfdet.training.classifier import SupernetClassifier


def test_the_classifier_sees_all_scales_and_has_no_routers():
    settings = registry.config("caddet-fcos", num_classes=1000)
    channels = settings.supernet.channels
    model = SupernetClassifier(registry.config("caddet-test", num_classes=7), (32, 32))
    model.build((1, 32, 32, 3))
    assert model.classifier.kernel.shape == (8 + 10 + 12 + 14, 7)
    assert sum(channels) == 960  # the published net's
    assert not [v.path for v in model.weights if "router" in v.path]


def test_the_loss_is_cross_entropy_and_decay():
    model = SupernetClassifier(registry.config("caddet-test", num_classes=3), (32, 32))
    model.build((1, 32, 32, 3))
    logits = np.array([[2.0, 0, 0], [0, 0, 0]], np.float32)
    labels = np.array([0, 2], np.int32)
    kernels = [
        np.asarray(v).astype(np.float64)
        for v in model.trainable_variables
        if v.name.endswith("kernel")  # those of depthwise convolutions too
    ]
    decay = 0.5 * model.config.weight_decay * sum((k**2).sum() for k in kernels)
    expected = (np.log(1 + 2 * np.exp(-2)) + np.log(3)) / 2 + decay
    loss = model.compute_loss(np.zeros((2, 32, 32, 3)), labels, keras.ops.convert_to_tensor(logits))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(model.accuracy.result()) == 0.5
