import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.losses import ota_cases
from tfdet.errors import UserError
from tfdet.losses.ota import OtaLossConfig, ota_losses_per_image
from tfdet.losses.router import OffsetRecord, RouterLossConfig, router_loss
from tfdet.ops.anchor_grid import YOLOV7

SMALL = RouterLossConfig(each_until=7, interval=5, capacity=40)


def _slow_offsets(gains, config, capacity=None):
    """The offset after each image, as the sheet's loop has it."""
    offsets, offset = [], 0.0
    for i in range(len(gains)):
        if i < config.each_until or i % config.interval == 0:
            seen = gains[: i + 1]
            offset = np.median(seen[-(capacity or len(seen)) :])
        offsets.append(offset)
    return np.array(offsets, np.float32)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("batches", [(1,) * 30, (4,) * 7 + (2,), (30,), (6, 1, 9, 14)])
def test_offsets_in_batches_are_those_of_single_images(wrap, batches):
    gains = np.random.default_rng(0).normal(size=30).astype("float32")
    record = OffsetRecord(SMALL)
    advance = wrap(record.advance)
    ends = np.cumsum(batches)
    parts = [advance(tf.constant(part)) for part in np.split(gains, ends[:-1])]
    expected = _slow_offsets(gains, SMALL)
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert float(record.offset) == expected[-1]


def test_a_full_record_forgets_the_oldest():
    gains = np.random.default_rng(1).normal(size=37).astype("float32")
    config = RouterLossConfig(each_until=4, interval=1, capacity=10)
    record = OffsetRecord(config)
    found = [np.asarray(record.advance(part)) for part in np.split(gains, (9, 12, 25))]
    every = dataclasses.replace(config, each_until=100)
    np.testing.assert_array_equal(np.concatenate(found), _slow_offsets(gains, every, 10))


def test_the_median_of_a_whole_pass():
    gains = np.random.default_rng(2).normal(size=21).astype("float32")
    record = OffsetRecord(SMALL)
    for part in np.split(gains, (8, 16)):
        record.collect(part)
        assert float(record.offset) == 0
    record.settle()
    assert float(record.offset) == np.median(gains)


def test_a_record_goes_on_from_its_variables():
    gains = np.random.default_rng(3).normal(size=20).astype("float32")
    whole, begun, resumed = (OffsetRecord(SMALL) for _ in range(3))
    expected = np.asarray(whole.advance(gains))
    begun.advance(gains[:13])
    for variable, saved in zip(resumed.variables, begun.variables, strict=True):
        variable.assign(np.asarray(saved))
    np.testing.assert_array_equal(resumed.advance(gains[13:]), expected[13:])


# Two CPU devices can only be asked for before TensorFlow starts, hence a program of its own.
_TWO_REPLICAS = """
import sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfdet.losses.router import OffsetRecord, RouterLossConfig

gains = np.load(sys.argv[1])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    record = OffsetRecord(RouterLossConfig(each_until=7, interval=5, capacity=40))

@tf.function
def advance(part):
    return strategy.run(record.advance, args=(part,))

found = []
for batch in gains.reshape(3, 2, 4):
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(batch[context.replica_id_in_sync_group])
    )
    found += [x.numpy() for x in strategy.experimental_local_results(advance(values))]
np.save(sys.argv[2], np.concatenate(found))
"""


def test_replicas_see_the_gains_of_all_in_their_order(tmp_path):
    gains = np.random.default_rng(4).normal(size=24).astype("float32")
    paths = [str(tmp_path / name) for name in ("gains.npy", "offsets.npy")]
    np.save(paths[0], gains)
    subprocess.run([sys.executable, "-c", _TWO_REPLICAS, *paths], check=True)
    np.testing.assert_array_equal(np.load(paths[1]), _slow_offsets(gains, SMALL))


def test_a_gain_above_the_offset_makes_an_image_harder():
    easiness = tf.Variable([0.5, 0.5, 0.5])
    first, second = tf.constant([3.0, 1.0, 1.0]), tf.constant([1.0, 1.0, 2.0])
    with tf.GradientTape() as tape:
        loss = router_loss(easiness, first, second, 0.5, cost_weight=0.25)
    slope = tape.gradient(loss, easiness)
    np.testing.assert_allclose(slope, [2 - 0.5 - 0.25, -0.5 - 0.25, -1 - 0.5 - 0.25])
    expected = 0.5 * np.sum([3 - 0.25, 1 - 0.25, 1 - 0.25]) + 0.5 * np.sum([1.25, 1.25, 2.25])
    assert float(loss) == pytest.approx(expected + 0.25 * 0.5 * 3)


def test_no_gradient_reaches_the_detectors():
    losses = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        loss = router_loss(tf.constant([0.3, 0.6]), losses, 2 * losses, 0.0)
    assert tape.gradient(loss, losses) is None


@pytest.mark.parametrize("batch", [1, 2])
def test_steps_of_the_router_are_the_published_ones(batch):
    config = OtaLossConfig(rescale_gains=False)
    targets = ota_cases.published_targets()
    first, second = (
        np.asarray(ota_losses_per_image(targets, raw, YOLOV7, ota_cases.IMAGE_SIZE, config))
        for raw in (ota_cases.published_predictions(k) for k in (1, 2))
    )
    record = OffsetRecord(RouterLossConfig())
    rows = [slice(i, i + batch) for i in range(0, 2, batch)]
    offsets = np.concatenate([record.advance(first[part] - second[part]) for part in rows])
    np.testing.assert_allclose(first - second, [-0.000682, -0.042955], atol=1e-6)
    np.testing.assert_allclose(offsets, [-0.000682, -0.0218186], atol=1e-6)
    losses = [
        float(router_loss(np.float32([0.6]), *(x[i : i + 1] for x in (first, second, offsets))))
        for i in range(2)
    ]
    np.testing.assert_allclose(losses, [0.272266, 0.231759], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 0}, "router_loss.capacity must be at least 1, got 0"),
        ({"cost_weight": -1.0}, "router_loss.cost_weight must be at least 0"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        RouterLossConfig(**changes)


def test_variables_hold_a_run_of_coco():
    record = OffsetRecord(RouterLossConfig())
    assert record.variables[0].shape[0] >= 2 * 118_287
    assert all(isinstance(v, keras.Variable) and not v.trainable for v in record.variables)
