"""Several devices or machines that train one model."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.training import cluster


def make_strategy(name: str, connect_seconds: float = 300.0) -> tf.distribute.Strategy | None:
    """The strategy of a recipe's `train.strategy`; None for one device.

    "multi_worker" must be made before any other work of TensorFlow in the process. It waits
    `connect_seconds` for the other workers.
    """
    if name == "mirrored":
        return _mirrored()
    if name == "multi_worker":
        return _connected(connect_seconds)
    return None


def scope(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[Any]:
    """The strategy's scope, where variables are made; nothing without a strategy."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """True for the one process that writes files and measures."""
    resolver = strategy.cluster_resolver if strategy else None
    return resolver is None or not resolver.task_type or resolver.task_id == 0


def num_workers(strategy: tf.distribute.Strategy | None) -> int:
    """The number of processes that share each batch."""
    resolver = strategy.cluster_resolver if strategy else None
    return len(resolver.cluster_spec().as_dict().get("worker", [0])) if resolver else 1


def check_batch_size(strategy: tf.distribute.Strategy | None, batch_size: int) -> None:
    """Refuses a global batch that cannot be shared out evenly."""
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if batch_size % replicas:
        raise UserError(
            f"batch size {batch_size} cannot be shared by {replicas} replicas; "
            f"choose a multiple of {replicas}"
        )


def check_same_step(strategy: tf.distribute.Strategy | None, step: int) -> None:
    """Refuses workers that would go on from different steps, as without a shared folder."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    if _sum_over_workers(strategy, step) != step * strategy.num_replicas_in_sync:
        raise UserError(
            f"the workers found different states (this one step {step}); "
            "--model_dir must be the same folder on all of them"
        )


def wait_for_each_other(strategy: tf.distribute.Strategy | None) -> None:
    """Returns when all workers are here; one that left early would be taken for crashed."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        _sum_over_workers(strategy, 0)


def hush_end(strategy: str) -> None:
    """Ends what a worker's process writes to standard error, once its training is done.

    TensorFlow has no way to end a cluster: whoever ends last reports that the others have crashed.
    """
    if strategy == "multi_worker":
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def _sum_over_workers(strategy: tf.distribute.Strategy, number: int) -> int:
    @tf.function(autograph=False)
    def total() -> tf.Tensor:
        # Made within `run`, where a device is set; the reduction needs one.
        numbers = strategy.run(lambda: tf.constant(number, tf.float32))
        return strategy.reduce("SUM", numbers, axis=None)

    return int(total())


def share_batches(
    strategy: tf.distribute.Strategy | None,
    batch_size: int,
    worker_batches: Callable[[int, int], tf.data.Dataset],
) -> Any:
    """Batches for `fit`: the replicas' parts add up to the batch that one device would see.

    Args:
        strategy: as `make_strategy` gives it.
        batch_size: images per step over all replicas.
        worker_batches: (index, count) -> this process's part of every batch, so that no worker
            decodes the images of another.
    """
    if strategy is None:
        return worker_batches(0, 1)

    def replica_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = worker_batches(context.input_pipeline_id, context.num_input_pipelines)
        return batches.rebatch(batch_size // strategy.num_replicas_in_sync)

    return strategy.distribute_datasets_from_function(replica_batches)


def _connected(connect_seconds: float) -> tf.distribute.Strategy:
    """The strategy of all workers, once they can be reached.

    TensorFlow's part blocks all of Python, handlers of signals too, for as long as one of them is
    missing; so the system's own effect of Ctrl-C is given back, and a timer of C ends the process.
    """
    members = cluster.read(os.environ.get("TF_CONFIG", ""))
    if len(members.workers) == 1:  # Keras cannot train with a cluster of one
        return _mirrored()
    cluster.wait_for_all(members, connect_seconds, _say)
    _say(
        f"all {len(members.workers)} workers answer; they start within {connect_seconds:g} s or end"
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(connect_seconds, exit=True, file=nowhere)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        finally:
            faulthandler.cancel_dump_traceback_later()


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
