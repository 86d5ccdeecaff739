import subprocess
import sys

import tensorflow as tf

from tfdet.losses import replicas


def test_without_a_strategy_everything_is_the_identity():
    values = tf.constant([1.0, 2.0])
    assert replicas.count() == 1
    assert replicas.sum_over_replicas(values) is values
    assert replicas.total_to_share(values) is values and replicas.share_to_total(values) is values
    gathered, start = replicas.gather_over_replicas(values)
    assert gathered is values and start == 0
    assert replicas.as_reducible({"loss": values}) == {"loss": values}


def test_alone_ends_with_its_block_also_within_itself():
    with replicas.alone():
        with replicas.alone():
            pass
        assert replicas._state.is_alone
    assert not replicas._state.is_alone


# Logical devices can be made once, before TensorFlow begins.
_TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfdet.losses import replicas

def each():
    own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
    everyone, start = replicas.gather_over_replicas(tf.stack([own, own + 10]))
    with replicas.alone():
        alone = replicas.sum_over_replicas(own)
    return {
        "sum": replicas.sum_over_replicas(own + 1),
        "share": replicas.total_to_share(tf.constant(6.0)),
        "total": replicas.share_to_total(own),
        "everyone": everyone,
        "start": start,
        "alone": alone,
    }

found = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).run(tf.function(each))
found = {name: [x.numpy().tolist() for x in value.values] for name, value in found.items()}
assert found == {
    "sum": [3, 3],
    "share": [3, 3],
    "total": [0, 2],
    "everyone": [[0, 10, 1, 11]] * 2,
    "start": [0, 2],
    "alone": [0, 1],
}, found
"""


def test_shares_add_up_over_two_replicas():
    done = subprocess.run([sys.executable, "-c", _TWO_REPLICAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
