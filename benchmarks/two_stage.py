"""Faster R-CNN part by part: time of inference, RoIAlign beside a native loop, a training step.

    python -m benchmarks.two_stage                                     r50 at 800x1333
    python -m benchmarks.two_stage --model=faster-rcnn-nano --image_size=160,160

The parts of the network are frozen as in an export and take turns, each on what the ones before it
gave. Weights are random, with class scores spread so widely that a full set of objects is found.
The native RoIAlign is `roi_align.cc`, compiled by g++ when this runs; a training step runs in a
process of its own, whose peak memory is what is told.
"""

import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdet
from benchmarks import timing
from benchmarks.efficientdet import frozen
from benchmarks.packdet import example_batch, peak_mib
from tfdet.ops import roi_align as roi_ops

# What the limit of 15 % is about.
REGION_PARTS = ("proposals (NMS)", "RoIAlign", "detections (NMS)")
SOURCE = pathlib.Path(__file__).with_name("roi_align.cc")
COMPILER = ("g++", "-O3", "-march=native", "-ffast-math", "-std=c++17", "-shared", "-fPIC")


def lively(name: str, image_size: tuple[int, int]) -> tfdet.Detector:
    """A detector that finds as many objects as it may, so that no loop ends early."""
    keras.utils.set_random_seed(0)
    model = tfdet.create(name, image_size=image_size)
    raw = model(example_batch(image_size, 1)[0])
    for layer, key, spread in (
        (model.box_head.class_dense, "class_logits", 2.0),
        (model.rpn.objectness, "objectness_logits", 2.0),
        (model.rpn.codes, "anchor_codes", 0.3),
    ):
        layer.kernel.assign(layer.kernel * spread / np.std(raw[key]))
    found = model.decode(model(example_batch(image_size, 1)[0]), image_size)
    print(f"{name} at {image_size[0]}x{image_size[1]}: {int(found['count'][0])} objects found")
    return model


def parts(model: tfdet.Detector) -> dict[str, Callable[[], object]]:
    """The network and its parts, each with its inputs."""
    size = model.image_size
    image = tf.constant(example_batch(size, 1)[0])
    neck = _frozen(lambda x: model.neck(model.backbone(model.normalization(x))), image)
    maps = model.neck(model.backbone(model.normalization(image)))
    predictions = model.rpn(maps)
    raw = model(image)
    seen = model.align(raw["maps"], raw["proposals"])
    regions = {k: raw[k] for k in ("class_logits", "box_codes", "proposals", "is_proposal")}
    return {
        "the whole": _frozen(lambda x: model.decode(model(x), size), image),
        "backbone and FPN": neck,
        "RPN": _frozen(model.rpn, maps),
        "proposals (NMS)": _frozen(lambda x: model.propose(x, image_size=size), predictions),
        "RoIAlign": _frozen(lambda m, b: model.align(m, b), raw["maps"], raw["proposals"]),
        "box head": _frozen(model.box_head, seen),
        "detections (NMS)": _frozen(lambda x: model.decode(x, size), regions),
    }


def _frozen(function: Callable[..., object], *inputs: Any) -> Callable[[], object]:
    run = tf.function(function)
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inputs)
    run = frozen(tf.function(run, input_signature=specs))
    flat = tf.nest.flatten(inputs)
    return lambda: run(*flat)


def against_native(model: tfdet.Detector) -> dict[str, Callable[[], object]]:
    """RoIAlign of the network and of `roi_align.cc`, on the same proposals, compared once."""
    raw = model(tf.constant(example_batch(model.image_size, 1)[0]))
    maps, boxes = raw["maps"], raw["proposals"]
    ours = _frozen(lambda m, b: model.align(m, b), maps, boxes)
    native = native_roi_align(model, {k: v.numpy() for k, v in maps.items()}, boxes.numpy()[0])
    expected = native()
    # Positions are rounded otherwise: relative to the largest value, as the maps are steep.
    np.testing.assert_allclose(
        ours()[0].numpy()[0], expected, atol=1e-3 * np.abs(expected).max(), rtol=0
    )
    return {"RoIAlign": ours, "native loop": native}


def native_roi_align(model: tfdet.Detector, maps: dict[str, np.ndarray], boxes: np.ndarray):
    folder = pathlib.Path(tempfile.mkdtemp())
    library = folder / "roi_align.so"
    subprocess.run([*COMPILER, str(SOURCE), "-o", str(library), "-pthread"], check=True)
    function = ctypes.CDLL(str(library)).roi_align
    arrays = [np.ascontiguousarray(x, np.float32) for x in maps.values()]
    sizes = np.array([x.shape[1:3] for x in arrays], np.int64)
    rows = np.array(roi_ops.region_levels(boxes, 2, 5, model.align.finest_side)) - 2
    rows = rows.astype(np.int32)
    scales = (0.25 * 0.5 ** np.arange(len(arrays))).astype(np.float32)
    bins, ratio = model.align.bins, model.align.sampling_ratio
    channels = arrays[0].shape[-1]
    numbers = [len(boxes), bins, ratio, os.cpu_count() or 1]

    def run() -> np.ndarray:
        out = np.empty((len(boxes), bins, bins, channels), np.float32)  # as TensorFlow's: new
        pointers = (ctypes.c_void_p * len(arrays))(*(x.ctypes.data for x in arrays))
        data = [ctypes.c_void_p(x.ctypes.data) for x in (boxes, rows, scales)]
        function(
            pointers,
            ctypes.c_void_p(sizes.ctypes.data),
            ctypes.c_int64(channels),
            *data,
            *map(ctypes.c_int64, numbers),
            ctypes.c_void_p(out.ctypes.data),
        )
        return out

    return run


def train(name: str, image_size: tuple[int, int], batch: int, steps: int) -> None:
    """Prints seconds of each training step, and the peak MiB of this process."""
    model = tfdet.create(name, image_size=image_size)
    model.compile(optimizer=keras.optimizers.SGD(1e-4, momentum=0.9), jit_compile=False)
    data = example_batch(image_size, batch, model.mask_size)
    before, seconds = peak_mib(), []
    for _ in range(steps):
        start = time.perf_counter()
        model.train_on_batch(*data)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "before_mib": before}))


def training(options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.two_stage", "--train"]
    command += [f"--model={options.model}", f"--image_size={options.image_size}"]
    command += [f"--batch={options.batch}", f"--steps={options.steps}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report_parts(times: dict[str, float]) -> None:
    whole = times["the whole"]
    print("\n| part | ms | share |\n|---|---|---|")
    for name, value in times.items():
        print(f"| {name} | {value:.1f} | {100 * value / whole:.1f} % |")
    share = sum(times[name] for name in REGION_PARTS) / whole
    print(f"\nRoIAlign and both suppressions: {100 * share:.1f} % of the whole", flush=True)


def report_native(times: dict[str, float]) -> None:
    ours, native = times.values()
    print(
        f"RoIAlign {ours:.1f} ms, native loop {native:.1f} ms: {native / ours:.2f} of its speed",
        flush=True,
    )


def report_training(batch: int, found: dict[str, Any]) -> None:
    first, *rest = found["seconds"]
    print(
        f"a training step, batch {batch}: {np.median(rest):.2f} s (first, with tracing, "
        f"{first:.1f} s); peak memory {found['peak_mib']:.0f} MiB, {found['before_mib']:.0f} of "
        "them before the first step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="faster-rcnn-r50")
    parser.add_argument("--image_size", default="800,1333", help="height,width")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1, help="images of a training step; 0: none")
    parser.add_argument("--steps", type=int, default=4, help="training steps")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file for the figures")
    options = parser.parse_args()
    height, width = map(int, options.image_size.split(","))
    if options.train:
        train(options.model, (height, width), options.batch, options.steps)
        return
    print(timing.machine(), flush=True)
    model = lively(options.model, (height, width))
    results: dict[str, Any] = {
        "model": options.model,
        "image_size": [height, width],
        "machine": timing.machine(),
        "batch": options.batch,
    }
    results["milliseconds"] = _milliseconds(parts(model), options.repeats)
    report_parts(results["milliseconds"])
    results["roi_align_milliseconds"] = _milliseconds(against_native(model), options.repeats)
    report_native(results["roi_align_milliseconds"])
    if options.batch:
        results["training"] = training(options)
        report_training(options.batch, results["training"])
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1))


def _milliseconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    return {k: 1e3 * v for k, v in timing.interleaved(runs, repeats).items()}


if __name__ == "__main__":
    main()
