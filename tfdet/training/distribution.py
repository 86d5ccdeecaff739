"""Several devices or machines that train one model."""

import contextlib
import json
import os
from typing import Any

import tensorflow as tf

from tfdet.errors import UserError


def make_strategy(name: str) -> tf.distribute.Strategy | None:
    """The strategy of a recipe's `train.strategy`; None for one device.

    "multi_worker" must be made before any other work of TensorFlow in the process.
    """
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        _check_cluster(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    return None


def scope(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[Any]:
    """The strategy's scope, where variables are made; nothing without a strategy."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """True for the one process that writes files and measures."""
    resolver = strategy.cluster_resolver if strategy else None
    return resolver is None or not resolver.task_type or resolver.task_id == 0


def check_batch_size(strategy: tf.distribute.Strategy | None, batch_size: int) -> None:
    """Refuses a global batch that cannot be shared out evenly."""
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if batch_size % replicas:
        raise UserError(
            f"batch size {batch_size} cannot be shared by {replicas} replicas; "
            f"choose a multiple of {replicas}"
        )


def worker_shard(strategy: tf.distribute.Strategy | None) -> tuple[int, int]:
    """(index of this process, number of processes) that share each global batch."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    return resolver.task_id, len(resolver.cluster_spec().as_dict()["worker"])


def _check_cluster(text: str) -> None:
    wanted = (
        'expected TF_CONFIG=\'{"cluster": {"worker": ["host:port", ...]}, '
        '"task": {"type": "worker", "index": 0}}\' in the environment of every worker'
    )
    try:
        config = json.loads(text) if text else {}
        workers = config["cluster"]["worker"]
        index = config["task"]["index"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"strategy multi_worker has no valid cluster; {wanted}") from None
    if not 0 <= int(index) < len(workers):
        raise UserError(f"task index {index} is not one of the {len(workers)} workers; {wanted}")
