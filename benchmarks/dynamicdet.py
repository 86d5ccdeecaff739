"""Times a dynamic detector against what it is made of, and prints Markdown tables.

    python -m benchmarks.dynamicdet [--model=dy-yolov7-nano] [--repeats=30] [--form=frozen]
    python -m benchmarks.dynamicdet --model_dir=runs/dynamic --targets

What routing itself costs: with nothing hard against the first detector alone, with all hard against
the cascade without a router (one image each), and a batch of which half is hard against the two
halves run apart. All ways are timed in turn, and the ratio is the median over the rounds.

With --targets: the effort is set for ten costs and ten latencies by a calibration on one half of
the validation data; the other half is run image by image, and the means compared with the targets.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tfdet
from benchmarks import timing
from tfdet.data import pipeline
from tfdet.detectors import cost_measurement
from tfdet.detectors.calibration import Calibration
from tfdet.serving import network

TARGETS = 10

Run = Callable[[], Any]


def compiled(function: Callable[..., Any], form: str, *specs: Any) -> Callable[..., Any]:
    """The function as a graph: with constants as in an export, or with variables as in Python."""
    if form == "frozen":
        return tf.function(network.frozen(function, *specs), input_signature=specs)
    return tf.function(function, input_signature=specs)


def ways(model: Any, form: str) -> dict[str, Callable[..., Any]]:
    """The dynamic detector, the first one alone, and the cascade without a router."""
    canvas = tf.TensorSpec([None, *model.image_size, 3])
    stages = model.stages
    threshold = tf.TensorSpec([])
    routed = network.frozen_network(model) if form == "frozen" else model.detect_fitted

    def cascade(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return stages.late(images, model.first.taps(images, training=False))

    return {
        "dynamic": tf.function(routed, input_signature=[canvas, threshold]),
        "first": compiled(model.first.detect_fitted, form, canvas),
        "cascade": compiled(cascade, form, canvas),
    }


def half_hard(
    model: Any, dynamic: Callable[..., Any], batch: int
) -> tuple[tf.Tensor, tf.Tensor, np.ndarray]:
    """A batch of images, the threshold that makes half of them hard, and which those are."""
    images = tf.random.stateless_uniform((batch, *model.image_size, 3), (1, 2), maxval=255.0)
    # From plain to noisy: scores of noise alone lie too close together.
    shares = tf.linspace(0.0, 1.0, batch)[:, None, None, None]
    images = shares * images + (1 - shares) * tf.reduce_mean(images, (1, 2), keepdims=True)
    easiness = dynamic(images, tf.constant(0.0))["easiness"].numpy()
    order = np.sort(easiness)
    threshold = tf.constant(order[batch // 2 - 1 : batch // 2 + 1].mean(), tf.float32)
    hard = dynamic(images, threshold)["is_hard"].numpy()
    if hard.sum() != batch // 2:
        raise SystemExit("the router gives these images equal scores; train it first")
    return images, threshold, hard


def overhead(model: Any, form: str, repeats: int, batch: int) -> None:
    """Prints what routing costs."""
    way = ways(model, form)
    image = tf.random.stateless_uniform((1, *model.image_size, 3), (0, 0), maxval=255.0)
    none, every = tf.constant(0.0), tf.constant(1.0)
    images, threshold, hard = half_hard(model, way["dynamic"], batch)
    easy_half, hard_half = (tf.constant(images.numpy()[rows]) for rows in (~hard, hard))
    pairs = {
        "nothing hard | the first detector": (
            {"routed": lambda: way["dynamic"](image, none), "apart": lambda: way["first"](image)},
            repeats,
        ),
        "all hard | the cascade without router": (
            {
                "routed": lambda: way["dynamic"](image, every),
                "apart": lambda: way["cascade"](image),
            },
            repeats,
        ),
        f"{batch} images, half of them hard | {batch // 2} early, then {batch // 2} late": (
            {
                "routed": lambda: way["dynamic"](images, threshold),
                "apart": lambda: (way["first"](easy_half), way["cascade"](hard_half)),
            },
            max(3, repeats // 3),
        ),
    }
    print("| routed | against | routed, ms | against, ms | ratio |\n|---|---|---|---|---|")
    for name, (runs, rounds) in pairs.items():
        seconds = timing.paired(runs, rounds)
        ratios = [a / b for a, b in zip(seconds["routed"], seconds["apart"], strict=True)]
        routed, apart = (1e3 * statistics.median(x) for x in seconds.values())
        print(f"| {name} | {routed:.1f} | {apart:.1f} | {statistics.median(ratios):.3f} |")


def targets(model: Any, data: str, form: str) -> None:
    """Prints how well targets are met on images that calibration has not seen."""
    dynamic = ways(model, form)["dynamic"]
    dataset = tfdet.open_dataset(data)
    batches = pipeline.eval_batches(dataset, model.image_size, 1, model.pad_value)
    images = [image for image, _ in batches]
    seen, unseen = images[::2], images[1::2]
    scores = np.concatenate([dynamic(x, tf.constant(0.0))["easiness"].numpy() for x in seen])
    times = cost_measurement.time_paths(
        dynamic, [image[0] for image in seen[:20]], model.threshold_ends
    )
    costs = model.cost_ends
    table = Calibration.from_scores(scores, costs, times)
    print(f"calibrated on {len(seen)} images, measured on {len(unseen)} others\n")
    for name, (early, late), unit in (
        ("target_madds", costs, 1e6),
        ("target_latency_ms", times, 1.0),
    ):
        print(f"| {name} | threshold | hard | reached | error |\n|---|---|---|---|---|")
        for position in (np.arange(TARGETS) + 0.5) / TARGETS:
            target = early + position * (late - early)
            threshold = table.threshold_for(**{name: target})
            cost, milliseconds, share = mean_cost(dynamic, unseen, threshold)
            reached = cost if name == "target_madds" else milliseconds
            print(
                f"| {target / unit:.2f} | {threshold:.4f} | {100 * share:.0f} % "
                f"| {reached / unit:.2f} | {100 * (reached / target - 1):+.1f} % |"
            )
        print()


def mean_cost(
    dynamic: Callable[..., Any], images: Sequence[tf.Tensor], threshold: float
) -> tuple[float, float, float]:
    """Multiply-adds and milliseconds of an image, one by one, and the share of hard ones."""
    at = tf.constant(threshold, tf.float32)
    start = time.perf_counter()
    found = [tf.nest.map_structure(np.asarray, dynamic(image, at)) for image in images]
    milliseconds = 1e3 * (time.perf_counter() - start) / len(images)
    macs = np.mean([x["macs"] for x in found])
    return float(macs), milliseconds, float(np.mean([x["is_hard"] for x in found]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dy-yolov7-nano", help="a registered dynamic detector")
    parser.add_argument("--model_dir", help="a training folder, in place of --model")
    parser.add_argument("--data", default="shapes:val", help="for --targets")
    parser.add_argument("--form", choices=("frozen", "python"), default="frozen")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8, help="images of which half is hard; even")
    parser.add_argument("--targets", action="store_true", help="targets asked for and met")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.model_dir:
        model = tfdet.load_trained(options.model_dir)
    else:
        model = tfdet.create(options.model)
    if options.form == "frozen":
        model = model.for_inference()
    height, width = model.image_size
    print(f"{model.name} at {height}x{width}, {options.form}; {timing.machine()}\n")
    if options.targets:
        targets(model, options.data, options.form)
    else:
        overhead(model, options.form, options.repeats, options.batch)


if __name__ == "__main__":
    main()
