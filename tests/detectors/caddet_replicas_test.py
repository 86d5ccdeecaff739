"""Two replicas learn what one device with the whole batch learns."""

import subprocess
import sys

import pytest

# Two CPU devices can only be asked for before TensorFlow starts, hence a program of its own.
PROGRAM = """
import contextlib, sys
import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfdet import registry

images = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3)).astype(np.uint8)
boxes, labels = np.zeros((8, 3, 4), np.float32), np.full((8, 3), -1, np.int32)
for i in range(8):
    for j in range(i % 4):
        boxes[i, j], labels[i, j] = (j, 2, j + 6 * (i + j + 1), 2 + 4 * (i + 1)), j


def train(scope):
    with scope:
        keras.utils.set_random_seed(1)
        model = registry.create(
            "caddet-test",
            batch_norm="frozen",
            weight_decay=0.0,
            routing_loss={"free_epochs": 0, "strategy": sys.argv[1], "scale_edges": [16, 32, 48]},
        )
        for router in model.backbone.routers:  # gates that are neither closed nor full
            router.score.kernel.assign(0.05 * np.asarray(router.score.kernel))
        model.compile(optimizer=keras.optimizers.SGD(1e-2))
    data = tf.data.Dataset.from_tensor_slices((images, {"boxes": boxes, "labels": labels}))
    history = model.fit(data.batch(4), epochs=1, verbose=0, shuffle=False).history
    return history, [np.asarray(v) for v in (*model.trainable_variables, *model.run_variables)]


mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one, two = train(contextlib.nullcontext()), train(mirrored.scope())
assert one[0].keys() == two[0].keys() and one[0]["path_loss"][0] > 0
for name, values in one[0].items():
    np.testing.assert_allclose(two[0][name], values, rtol=1e-3, atol=1e-6, err_msg=name)
for mine, theirs in zip(one[1], two[1], strict=True):
    np.testing.assert_allclose(theirs, mine, rtol=1e-3, atol=1e-5)
"""

PAIRS = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfdet.losses.path_similarity import path_similarity_loss

rng = np.random.default_rng(0)
gates = rng.random((8, 5)).astype(np.float32)
codes = rng.integers(0, 2, (8, 4)).astype(np.float32)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def total(per_replica):
    def share():
        start = 4 * tf.distribute.get_replica_context().replica_id_in_sync_group
        own = [tf.ensure_shape(x[start : start + 4], [4, x.shape[1]]) for x in (gates, codes)]
        return path_similarity_loss(*own, 0.6, 0.95, per_replica)

    shares = tf.function(lambda: mirrored.run(share))()
    return sum(float(x) for x in mirrored.experimental_local_results(shares))


gates, codes = tf.constant(gates), tf.constant(codes)
halves = [path_similarity_loss(gates[i : i + 4], codes[i : i + 4], 0.6, 0.95) for i in (0, 4)]
np.testing.assert_allclose(total(True), np.mean(halves), rtol=1e-5)
np.testing.assert_allclose(total(False), path_similarity_loss(gates, codes, 0.6, 0.95), rtol=1e-5)
"""


@pytest.mark.slow
def test_pairs_may_be_those_of_each_replica():
    command = [sys.executable, "-c", PAIRS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["scale_aware", "loss_aware"])
def test_losses_gradients_and_metrics_are_those_of_the_whole_batch(strategy):
    command = [sys.executable, "-c", PROGRAM, strategy]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
