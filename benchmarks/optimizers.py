"""A training step with one fused operation for each variable, and with the update that is in use.

    python -m benchmarks.optimizers [--models=fcos-nano,...] [--repeats=40]

Two copies of a model take turns on one batch; they differ in the optimizer's `update_step` alone.
In use are Keras's updates, and ours for Nesterov. Printed: nodes of the graph, median milliseconds
of a step by the wall clock and of processor time, and the median of the ratios within one round, of
the update in use to the fused one. Where other programs run, the processor time is what holds.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

import tfdet
from benchmarks import timing
from benchmarks.packdet import example_batch
from tfdet.training import optimizer as optimizers
from tfdet.training import schedules

MODELS = "fcos-nano,dy-yolov7-nano,faster-rcnn-nano,caddet-nano"
WARM_UP = 4  # rounds; the first builds the graphs


class FusedSGD(optimizers.SGD):
    """Moves a variable with one operation, with momentum."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Any) -> None:
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=self.rate_of(variable, learning_rate),
            grad=gradient,
            momentum=self.momentum,
        )


class FusedAdam(optimizers.Adam):
    """Moves a variable with one operation in the place of Keras's 30."""

    def _update(self, distribution: Any, grads_and_vars: list[Any], learning_rate: Any) -> None:
        updates = tf.cast(self.iterations + 1, tf.float32)
        self._powers = self.beta_1**updates, self.beta_2**updates
        super()._update(distribution, grads_and_vars, learning_rate)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self._powers[0],
            beta2_power=self._powers[1],
            lr=self.rate_of(variable, learning_rate),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedNesterov(optimizers.NesterovSGD):
    """Moves a variable with one operation, after its decay."""

    def _step(
        self, variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor, momentum: tf.Tensor
    ) -> None:
        decay = self.decay_of(variable)
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=self._velocities[self._get_variable_index(variable)].value.handle,
            lr=rate,
            grad=gradient + decay * variable if decay else gradient,
            momentum=momentum,
            use_nesterov=True,
        )


def _nesterov(kind: type) -> keras.optimizers.Optimizer:
    rate, momentum = (
        schedules.Constant(peak=peak, total_steps=1000, warmup_steps=100) for peak in (1e-4, 0.9)
    )
    return kind(rate, rate, momentum, weight_decay=5e-4, clip_norm=10.0)


PAIRS: dict[str, tuple[Callable[[], keras.optimizers.Optimizer], ...]] = {
    "SGD": tuple(
        lambda kind=kind: kind(1e-4, momentum=0.9, clip_norm=10.0)
        for kind in (FusedSGD, optimizers.SGD)
    ),
    "Adam": tuple(
        lambda kind=kind: kind(1e-5, clip_norm=10.0) for kind in (FusedAdam, optimizers.Adam)
    ),
    "Nesterov": tuple(
        lambda kind=kind: _nesterov(kind) for kind in (FusedNesterov, optimizers.NesterovSGD)
    ),
}


def compiled_step(
    name: str, optimizer: keras.optimizers.Optimizer, image_size: tuple[int, int], batch: int
) -> tuple[Callable[[], object], int]:
    """One training step, and the nodes of its graph."""
    keras.utils.set_random_seed(0)
    model = tfdet.create(name, image_size=image_size)
    model.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(model.trainable_variables)
    data = tf.nest.map_structure(tf.constant, example_batch(image_size, batch, model.mask_size))
    step = tf.function(model.train_step)
    graph = step.get_concrete_function(data).graph.as_graph_def()
    nodes = len(graph.node) + sum(len(f.node_def) for f in graph.library.function)
    return lambda: step(data), nodes


def in_turns(steps: list[Callable[[], object]], repeats: int) -> list[list[tuple[float, float]]]:
    """Wall and processor seconds of each step in each round; every other round runs backwards."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in steps]
    for round_number in range(WARM_UP + repeats):
        order = range(len(steps))
        for i in order if round_number % 2 else reversed(order):
            wall, cpu = time.perf_counter(), time.process_time()
            tf.nest.map_structure(lambda x: x.numpy() if tf.is_tensor(x) else x, steps[i]())
            if round_number >= WARM_UP:
                seconds[i].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def report(name: str, optimizer: str, nodes: list[int], seconds: list) -> None:
    cells = [name, optimizer, " / ".join(f"{n:,}" for n in nodes)]
    for clock in (0, 1):
        one, other = ([pair[clock] for pair in runs] for runs in seconds)
        ratio = statistics.median(b / a for a, b in zip(one, other, strict=True))
        medians = (1e3 * statistics.median(values) for values in (one, other))
        cells += [" / ".join(f"{m:.0f}" for m in medians), f"{ratio:.3f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS, help="with commas between")
    parser.add_argument("--optimizers", default=",".join(PAIRS), help="with commas between")
    parser.add_argument("--image_size", default="160,160", help="height,width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    height, width = map(int, options.image_size.split(","))
    print(timing.machine(), "\n")
    print("| model | optimizer | nodes: fused / in use | wall ms | ratio | CPU ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models.split(","):
        for optimizer in options.optimizers.split(","):
            made = [
                compiled_step(name, make(), (height, width), options.batch)
                for make in PAIRS[optimizer]
            ]
            steps, nodes = zip(*made, strict=True)
            report(name, optimizer, list(nodes), in_turns(list(steps), options.repeats))
            del made, steps
            gc.collect()


if __name__ == "__main__":
    main()
