"""Several devices or machines that train one model."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdet.devices import in_use
from tfdet.errors import UserError
from tfdet.evaluation import sharing
from tfdet.training import cluster

_AS_INT32 = ("float32", "float64", "int32", "int64", "uint32", "uint64")  # whole words


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
    """True for the one process that writes files."""
    resolver = strategy.cluster_resolver if strategy else None
    return resolver is None or not resolver.task_type or resolver.task_id == 0


def num_workers(strategy: tf.distribute.Strategy | None) -> int:
    """The number of processes that share each batch."""
    resolver = strategy.cluster_resolver if strategy else None
    return len(resolver.cluster_spec().as_dict().get("worker", [0])) if resolver else 1


def devices(strategy: tf.distribute.Strategy | None) -> str:
    """What a training runs on, in words."""
    if strategy is None:
        return in_use()
    if strategy.num_replicas_in_sync == 1:
        return f"{in_use()}, the only device that TensorFlow finds"
    kind = "GPUs" if tf.config.list_physical_devices("GPU") else "CPU devices"
    return f"{strategy.num_replicas_in_sync} {kind}"


def unused_devices(strategy: tf.distribute.Strategy | None) -> str:
    """A clause that offers to train on all GPUs; "" where there are no others."""
    count = len(tf.config.list_physical_devices("GPU"))
    offers = strategy is None and count > 1
    return f" (--strategy=mirrored would use all {count})" if offers else ""


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


class Shared:
    """Measurements that all workers of a strategy share, each with all of its replicas.

    What they tell each other goes the way of gradients: who dies is noticed as in a step.

    Args:
        strategy: of the training.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        is_cluster = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        count = len(resolver.cluster_spec().as_dict()["worker"]) if is_cluster else 1
        self.shard = (resolver.task_id if is_cluster else 0, count)
        self.replicas = strategy.num_replicas_in_sync // count

    def prepare(self, model: keras.Model) -> None:
        """Gives all workers the chief's weights; statistics of batch norms may differ."""
        if self.shard[1] == 1:
            return
        variables = [v for v in model.weights if v.dtype in _AS_INT32]
        values = [tf.convert_to_tensor(v.value).numpy() for v in variables]
        flat = np.concatenate([x.view(np.int32).reshape(-1) for x in map(np.atleast_1d, values)])
        of_chief = self._sum(flat if self.shard[0] == 0 else np.zeros_like(flat))
        places = np.cumsum([x.size * x.itemsize // 4 for x in values])[:-1]
        for variable, old, new in zip(variables, values, np.split(of_chief, places), strict=True):
            new = new.view(old.dtype).reshape(old.shape)
            if not np.array_equal(new, old, equal_nan=True):
                variable.assign(new)

    def on_replicas(
        self, detect: Callable[..., Any], specs: Sequence[tf.TensorSpec]
    ) -> Callable[[list[Any]], list[Any]]:
        """See `evaluation.sharing.Sharing`; a replica without a batch repeats an image."""
        if self.replicas == 1:
            return sharing.ALONE.on_replicas(detect, specs)
        strategy = self._strategy

        # The last batch may be smaller: a second trace has any size.
        @tf.function(autograph=False, reduce_retracing=True)
        def run(*per_replica: Any) -> Any:
            return strategy.run(detect, args=per_replica)

        def on_all(batches: list[Any]) -> list[Any]:
            idle = [[x[:1] for x in batches[0]]] * (self.replicas - len(batches))
            columns = zip(*batches, *idle, strict=True)
            found = run(*(self._values(column) for column in columns))
            found = {name: strategy.experimental_local_results(x) for name, x in found.items()}
            return [{name: x[i] for name, x in found.items()} for i in range(len(batches))]

        return on_all

    def _values(self, of_replicas: Sequence[Any]) -> Any:
        """A value for each of this process's replicas as the strategy takes them."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(
                of_replicas[context.replica_id_in_sync_group % self.replicas]
            )
        )

    def gather(self, content: bytes) -> list[bytes]:
        """See `evaluation.sharing.Sharing`."""
        index, count = self.shard
        if count == 1:
            return [content]
        sizes = self._sum(np.where(np.arange(count) == index, len(content), 0).astype(np.int32))
        ends = np.cumsum(-(-sizes // 4))
        everything = np.zeros(ends[-1], np.int32)
        own = np.frombuffer(content + b"\0" * (-len(content) % 4), np.int32)
        everything[ends[index] - len(own) : ends[index]] = own
        everything = self._sum(everything)
        starts = [0, *ends[:-1]]
        return [everything[at:].tobytes()[:size] for at, size in zip(starts, sizes, strict=True)]

    def _sum(self, numbers: np.ndarray) -> np.ndarray:
        """The sum of int32 [N] over the workers, without rounding."""
        values = self._values([numbers] + [np.zeros_like(numbers)] * (self.replicas - 1))
        return self._strategy.reduce("SUM", values, axis=None).numpy()


def sharing_of(strategy: tf.distribute.Strategy | None) -> sharing.Sharing:
    """How measurements are shared in a training with the strategy."""
    return Shared(strategy) if strategy else sharing.ALONE


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
