"""Times EfficientDet-D0 at 512x512 on this machine and prints a Markdown table.

    python -m benchmarks.efficientdet [--repeats=20] [--model=efficientdet-d0]

Rows: the network alone, uint8 image to detections (Python and SavedModel), a training step of four
images, the input pipeline, and evaluation. EfficientNet-B0 of Keras, frozen, at the same size is
the yardstick: quote ratios to it, since absolute times change with the machine.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

import tfdet
from benchmarks import timing
from tfdet.data import pipeline
from tfdet.training import optimizer as optimizers

BATCH = 4
STEP_BATCH_BOXES = 7


def frozen(function: tf.types.experimental.PolymorphicFunction) -> Callable[..., object]:
    """The function with its variables as constants, as an export has it."""
    return convert_to_constants.convert_variables_to_constants_v2(function.get_concrete_function())


def yardstick(size: tuple[int, int]) -> Callable[[], object]:
    """EfficientNet-B0 features of one image, frozen."""
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(*size, 3)
    )
    spec = [tf.TensorSpec((1, *size, 3), tf.float32)]
    run = frozen(tf.function(lambda x: model(x, training=False), input_signature=spec))
    image = tf.random.uniform((1, *size, 3), 0, 255)
    return lambda: run(image)


def inference_runs(model: tfdet.Detector, folder: pathlib.Path) -> dict[str, Callable[[], object]]:
    """The network and the ways from one uint8 image to detections."""
    canvas = tf.random.uniform((1, *model.image_size, 3), 0, 255)
    photo = tf.cast(tf.random.uniform((1, 480, 640, 3), 0, 255), tf.uint8)
    network = tf.function(lambda x: model(x, training=False))
    spec = [tf.TensorSpec(canvas.shape, tf.float32)]
    network_frozen = frozen(tf.function(lambda x: model(x, training=False), input_signature=spec))
    detect = tf.function(
        model.detect, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    tfdet.export(model, folder)
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return {
        "network, Python": lambda: network(canvas),
        "network, frozen": lambda: network_frozen(canvas),
        "uint8 to detections, Python": lambda: detect(photo),
        "uint8 to detections, SavedModel": lambda: served(images=photo),
    }


def training_step(model: tfdet.Detector) -> Callable[[], object]:
    """One compiled step of `BATCH` images with the published optimizer."""
    rng = np.random.default_rng(0)
    height, width = model.image_size
    corners = rng.uniform(0, (width / 2, height / 2), (BATCH, STEP_BATCH_BOXES, 2))
    sides = rng.uniform(16, (width / 2, height / 2), (BATCH, STEP_BATCH_BOXES, 2))
    boxes = np.zeros((BATCH, 100, 4), np.float32)
    boxes[:, :STEP_BATCH_BOXES] = np.concatenate([corners, corners + sides], axis=-1)
    labels = np.full((BATCH, 100), -1, np.int32)
    labels[:, :STEP_BATCH_BOXES] = rng.integers(0, model.num_classes, (BATCH, STEP_BATCH_BOXES))
    images = tf.random.uniform((BATCH, *model.image_size, 3), 0, 255)
    targets = {
        "boxes": tf.constant(boxes),
        "labels": tf.constant(labels),
        "is_crowd": tf.zeros(labels.shape, tf.bool),
    }
    model.compile(optimizer=optimizers.SGD(0.01, momentum=0.9, clip_norm=10.0))
    step = tf.function(model.train_step)
    return lambda: step((images, targets))


def pipeline_speed(model: tfdet.Detector, dataset: Any, batches: int) -> float:
    """Images per second of the training pipeline, augmentation included."""
    source = pipeline.train_batches(dataset, model.image_size, BATCH, pad_value=model.pad_value)
    iterator = iter(source)
    next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * BATCH / (time.perf_counter() - start)


def evaluation_speed(model: tfdet.Detector, dataset: Any) -> float:
    """Images per second from files to the twelve COCO numbers, compilation included."""
    start = time.perf_counter()
    tfdet.evaluate(model, dataset, batch_size=BATCH)
    return len(dataset) / (time.perf_counter() - start)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientdet-d0")
    parser.add_argument("--data", default="shapes:val", help="for the pipeline and the evaluation")
    parser.add_argument("--repeats", type=int, default=20)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model = tfdet.create(options.model)
    size = model.image_size
    with tempfile.TemporaryDirectory() as folder:
        runs = inference_runs(model, pathlib.Path(folder) / "saved_model")
        runs["yardstick: EfficientNet-B0, frozen"] = yardstick(size)
        seconds = timing.interleaved(runs, options.repeats)
    step = {"training step, batch 4": training_step(model)}
    seconds |= timing.interleaved(step, options.repeats)
    dataset = tfdet.open_dataset(options.data)
    input_speed = pipeline_speed(model, dataset, batches=2 * options.repeats)
    classes = {"class_names": dataset.class_names, "class_ids": dataset.class_ids}
    model = tfdet.create(options.model, num_classes=dataset.num_classes, **classes)
    eval_speed = evaluation_speed(model, dataset.subset(100))

    print(f"{options.model} at {size[0]}x{size[1]}; {timing.machine()}\n")
    print("| what | median | by the yardstick |\n|---|---|---|")
    unit = seconds["yardstick: EfficientNet-B0, frozen"]
    for name, value in seconds.items():
        print(f"| {name} | {1e3 * value:.1f} ms | {value / unit:.2f} |")
    print(f"| input pipeline, {options.data} | {input_speed:.0f} images/s | |")
    print(f"| evaluation, {options.data} | {eval_speed:.1f} images/s | |")


if __name__ == "__main__":
    main()
