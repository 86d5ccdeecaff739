"""Small two-stage detectors, super-networks and batches for tests of teachers."""

import keras
import numpy as np
import tensorflow as tf

from tfdet import registry
from tfdet.backbones.encoding import super_encoding
from tfdet.nas.subnets import ElasticConfig, Subnet
from tfdet.nas.weights import put_weights, take_weights

SIZE = (64, 64)
FULL = super_encoding((2, 2, 2, 2), stem=8)
CONFIG = ElasticConfig(
    depths=((1, 2), (1, 2), (1, 2), (2,)), widths=((1.0, 1.5),) * 4, recalibration_images=4
)
SPACE = CONFIG.space(FULL, SIZE)
MIXED = Subnet((1, 2, 1, 2), (1.0, 1.5, 1.0, 1.0), SIZE)


def batch(seed=0, count=2, size=64):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (count, size, size, 3)).astype(np.float32)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]]] * count, np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 2]] * count, np.int32)}


def detector(seed=0, name="faster-rcnn-test", **changes):
    keras.utils.set_random_seed(seed)
    return registry.create(name, **changes)


def same_as(model):
    other = type(model).from_record(model.config, model.name)
    other.build_variables()
    put_weights(other, take_weights(model))
    return other


def loss_terms(model, data=None):
    images, targets = data or batch()
    terms = model.loss_terms(targets, model(images, training=True), True)
    return {name: float(value) for name, value in terms.items()}


def batches(size=SIZE, count=2):
    rng = np.random.default_rng(0)
    for _ in range(count):
        images = rng.integers(0, 255, (2, *size, 3)).astype(np.float32)
        boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]]] * 2, np.float32)
        yield (
            tf.constant(images),
            {
                "boxes": tf.constant(boxes),
                "labels": tf.constant([[1, 2]] * 2),
            },
        )


def super_network(seed=0, **changes):
    keras.utils.set_random_seed(seed)
    return registry.create("faster-rcnn-test", backbone=FULL, **changes)
