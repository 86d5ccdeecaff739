"""PackDet beside FCOS: time of inference, share of PackOp in it, memory of training.

    python -m benchmarks.packdet                                 r50 at 800x1344
    python -m benchmarks.packdet --size=nano --image_size=160,160

The same PackDet runs packed, and map by map with joint and with separate norms. Networks are frozen
as in an export; the runs take turns. Memory is the peak of a process of its own that makes two
training steps, less what it holds before the first.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdet
from benchmarks import timing
from benchmarks.efficientdet import frozen
from benchmarks.packop import REPEATS_IN_GRAPH, repeated
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL
from tfdet.ops import pack as pack_ops
from tfdet.ops.anchors import level_sizes

FORMS = {
    "PackDet, packed": {"packed.in_inference": True},
    "PackDet, map by map, joint norms": {
        "packed.in_inference": False,
        "packed.unpacked_norm": "joint",
    },
    "PackDet, map by map, separate norms": {"packed.in_inference": False},
}


def network(model: tfdet.Detector) -> Callable[[], object]:
    spec = [tf.TensorSpec((1, *model.image_size, 3), tf.float32)]
    run = frozen(tf.function(lambda x: model(x, training=False), input_signature=spec))
    image = tf.random.uniform((1, *model.image_size, 3), 0, 255)
    return lambda: run(image)


def op_alone(model: tfdet.Detector) -> Callable[[], object]:
    """PackOp, `REPEATS_IN_GRAPH` times, on maps as the model packs them."""
    config = model.config
    sizes = level_sizes(model.image_size, MIN_LEVEL, MAX_LEVEL)
    levels = pack_ops.map_levels(config.packed.pattern, len(sizes))
    maps = [tf.random.normal((1, *sizes[level], config.fpn_width)) for level in levels]
    return repeated(lambda maps: pack_ops.pack(maps, config.packed.pattern), maps)


def times(size: str, image_size: tuple[int, int], repeats: int) -> dict[str, float]:
    """Median milliseconds of each network and of the op."""
    fcos = tfdet.create(f"fcos-{size}", image_size=image_size)
    runs = {"FCOS": network(fcos)}
    for name, changes in FORMS.items():
        model = tfdet.create(f"packdet-{size}", image_size=image_size, **changes)
        runs[name] = network(model)
        if "PackOp alone" not in runs:
            runs["PackOp alone"] = op_alone(model)
    milliseconds = {k: 1e3 * v for k, v in timing.interleaved(runs, repeats).items()}
    milliseconds["PackOp alone"] /= REPEATS_IN_GRAPH
    return milliseconds


def train_twice(name: str, image_size: tuple[int, int], batch: int) -> None:
    """Prints the peak MiB that two training steps add to the process."""
    model = tfdet.create(name, image_size=image_size)
    model.compile(optimizer=keras.optimizers.SGD(1e-4, momentum=0.9), jit_compile=False)
    images, targets = example_batch(image_size, batch)
    before = peak_mib()
    for _ in range(2):
        model.train_on_batch(images, targets)
    print(json.dumps(peak_mib() - before))


def example_batch(
    image_size: tuple[int, int], batch: int, mask_size: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Noise with two objects in every image."""
    height, width = image_size
    images = np.random.default_rng(0).uniform(0, 255, (batch, height, width, 3)).astype(np.float32)
    boxes = np.array([[8, 8, width / 4, height / 3], [width / 3, height / 4, width, height]])
    targets = {
        "boxes": np.tile(boxes.astype(np.float32), (batch, 1, 1)),
        "labels": np.tile(np.array([[0, 1]], np.int32), (batch, 1)),
    }
    if mask_size:
        targets["masks"] = np.ones((batch, 2, mask_size, mask_size), np.uint8)
    return images, targets


def peak_mib() -> float:
    """Most memory that this process has held so far (getrusage would count its parent's too)."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(size: str, image_size: tuple[int, int], batch: int) -> dict[str, float]:
    found = {}
    for name in (f"fcos-{size}", f"packdet-{size}"):
        arguments = [f"--train={name}", f"--image_size={image_size[0]},{image_size[1]}"]
        command = [sys.executable, "-m", "benchmarks.packdet", *arguments, f"--batch={batch}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(results: dict[str, Any]) -> None:
    found = results["milliseconds"]
    print("\n| one image | ms | of FCOS |\n|---|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} | {value / found['FCOS']:.3f} |")
    share = found["PackOp alone"] / found["PackDet, packed"]
    print(f"\nPackOp is {100 * share:.2f} % of PackDet's forward pass")
    if results["training_mib"]:
        (first, fcos), (second, packdet) = results["training_mib"].items()
        print(
            f"peak memory of training, batch {results['batch']}: {first} {fcos:.0f} MiB, {second} "
            f"{packdet:.0f} MiB ({100 * (packdet / fcos - 1):+.1f} %)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="r50", help="end of the models' names")
    parser.add_argument("--image_size", default="800,1344", help="height,width")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1, help="images of a training step; 0: none")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file for the figures")
    options = parser.parse_args()
    height, width = map(int, options.image_size.split(","))
    if options.train:
        train_twice(options.train, (height, width), options.batch)
        return
    form = "native" if pack_ops.native_is_available() else "portable"
    print(f"{options.size} at {height}x{width}; {timing.machine()}; {form} op")
    results = {
        "size": options.size,
        "image_size": [height, width],
        "machine": timing.machine(),
        "form": form,
        "batch": options.batch,
        "milliseconds": times(options.size, (height, width), options.repeats),
        "training_mib": memory(options.size, (height, width), options.batch)
        if options.batch
        else {},
    }
    report(results)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
