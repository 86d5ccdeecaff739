import keras
import numpy as np
import pytest

from tfdet import profiling
from tfdet.backbones.mobilenet_v1 import MobileNetV1


def test_levels_have_the_published_widths_and_round_up():
    body = MobileNetV1(levels=(2, 3, 4, 5))
    maps = body.compute_output_spec(keras.KerasTensor((1, 65, 90, 3)))
    shapes = [tuple(x.shape[1:]) for x in maps.values()]
    assert shapes == [(17, 23, 128), (9, 12, 256), (5, 6, 512), (3, 3, 1024)]


def test_counts_are_the_published_ones():
    """The paper's 569 M multiply-adds and 4.2 M parameters, without the classifier's 1.024 M."""
    body = MobileNetV1()
    body(np.zeros((1, 64, 64, 3), np.float32))
    body.image_size = (224, 224)
    macs = profiling.path_macs(body, body.compute_output_spec)
    assert (macs + 1024 * 1000) / 1e6 == pytest.approx(569, abs=0.5)
    numbers = sum(np.prod(v.shape) for v in body.trainable_weights)
    assert (numbers + 1025 * 1000) / 1e6 == pytest.approx(4.2, abs=0.05)


def test_saving_and_checkpointing_keep_the_outputs():
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    plain = MobileNetV1("mnv1-test")
    saving = MobileNetV1.from_config({**plain.get_config(), "gradient_checkpointing": True})
    plain(x), saving(x)
    saving.set_weights(plain.get_weights())
    for name, expected in plain(x, training=True).items():
        np.testing.assert_allclose(saving(x, training=True)[name], expected, atol=1e-5)
