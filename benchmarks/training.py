"""Where the time of a training step goes.

    python -m benchmarks.training [--models=fcos-nano,yolov7-nano,...] [--batch=16] [--repeats=15]

A step is timed in growing pieces that take turns: the forward pass, with the loss, with the
gradient, with the optimizer's update. What a part costs is the median of the differences within a
round. Two yardsticks are taken in the same rounds: three times the forward pass, and the step's
multiply-adds (three times those of the forward pass) at the speed at which a frozen EfficientDet-D0
runs. The images are those of `shapes`, whose objects are as many as in real training.

Printed besides: nodes of the step's graph with those of the functions that it calls, seconds to the
first step, and how many of the cores a step keeps busy.
"""

import argparse
import gc
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdet
from benchmarks import timing
from tfdet.config import TrainConfig
from tfdet.data import pipeline, sources
from tfdet.training import fitting

MODELS = (
    "efficientdet-nano,retinanet-nano,fcos-nano,packdet-nano,yolov7-nano,faster-rcnn-nano,"
    "mask-rcnn-nano,caddet-nano,dy-yolov7-nano"
)
COLUMNS = "model batch forward loss backward update step loss/step step/3·forward step/yardstick"
COLUMNS += " images/s cores nodes first·s"
WARM_UP = 3


def batch_of_shapes(model: tfdet.Detector, size: int) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Images and targets as training gets them, [size, ...]."""
    dataset = sources.open_dataset(f"shapes:train:{size}")
    batches = pipeline.train_batches(
        dataset, model.image_size, size, pad_value=model.pad_value, mask_size=model.mask_size
    )
    return tf.nest.map_structure(tf.constant, next(iter(batches)))


def pieces(model: tfdet.Detector, batch: Any) -> dict[str, Callable[[], Any]]:
    """The growing pieces of a step, each compiled, and the step itself as "update"."""
    images, targets = batch

    def loss(training: bool = True) -> tf.Tensor:
        return model.compute_loss(images, targets, model(images, training=training))

    def gradient() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            value = loss()
        return [tf.reduce_sum(g) for g in tape.gradient(value, model.trainable_variables)]

    def forward() -> list[tf.Tensor]:
        outputs = tf.nest.flatten(model(images, training=True))
        return [tf.reduce_sum(tf.cast(x, tf.float32)) for x in outputs]

    made = {"forward": forward, "loss": loss, "backward": gradient}
    made["update"] = lambda: model.train_step(batch)
    not_converted = tf.autograph.experimental.do_not_convert
    return {name: tf.function(not_converted(f), autograph=False) for name, f in made.items()}


def nodes_of(function: Any) -> int:
    """Nodes of a compiled function's graph, with those of the functions in it."""
    graph = function.get_concrete_function().graph.as_graph_def()
    return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)


def frozen_d0() -> tuple[Callable[[], Any], float]:
    """EfficientDet-D0's network on one image, and the multiply-adds of it."""
    model = tfdet.create("efficientdet-d0")
    image = tf.zeros((1, *model.image_size, 3))
    run = tf.function(lambda: tf.nest.flatten(model(image, training=False))[0], autograph=False)
    return run, tfdet.profile(model).macs


def measure(
    name: str,
    image_size: tuple[int, ...],
    size: int,
    repeats: int,
    yardstick: tuple[Callable[[], Any], float],
) -> None:
    """Prints a row of the table."""
    keras.utils.set_random_seed(0)
    model = tfdet.create(name, image_size=image_size) if image_size else tfdet.create(name)
    batch = batch_of_shapes(model, size)
    fitting.compile_model(model, TrainConfig(batch_size=size), 100, model.name)
    runs = pieces(model, batch)
    start = time.perf_counter()
    runs["update"]()
    first = time.perf_counter() - start
    frozen, macs = yardstick
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(WARM_UP):
        tf.nest.map_structure(lambda x: x.numpy(), runs["update"]())
    cores = (time.process_time() - cpu) / (time.perf_counter() - wall)
    rounds = timing.paired({**runs, "frozen": frozen}, repeats)
    forward, loss, backward, step, frozen_step = (
        np.array(rounds[name]) for name in (*runs, "frozen")
    )
    work = 3 * size * tfdet.profile(model).macs / macs
    times = (forward, loss - forward, backward - loss, step - backward, step)
    cells = [
        *(f"{1e3 * np.median(seconds):.0f}" for seconds in times),
        f"{np.median((loss - forward) / step):.0%}",
        f"{np.median(step / (3 * forward)):.2f}",
        f"{np.median(step / (work * frozen_step)):.2f}",
        f"{np.median(size / step):.1f}",
        f"{cores:.2f}",
        f"{nodes_of(runs['update']):,}",
        f"{first:.0f}",
    ]
    print("| " + " | ".join([name, str(size), *cells]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS, help="with commas between")
    parser.add_argument("--image_size", default="160,160", help='height,width; "" for the own')
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{timing.machine()}, load {load}\n\nTimes in ms.\n")
    image_size = tuple(int(side) for side in options.image_size.split(",") if side)
    columns = COLUMNS.split(" ")
    print("| " + " | ".join(c.replace("·", " ") for c in columns) + " |")
    print("|" + "---|" * len(columns))
    yardstick = frozen_d0()
    for name in options.models.split(","):
        measure(name, image_size, options.batch, options.repeats, yardstick)
        gc.collect()


if __name__ == "__main__":
    main()
