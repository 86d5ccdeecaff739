"""Times of assignment, losses and post-processing at the size of EfficientDet-D0 with 90 classes.

python -m benchmarks.detection_ops
"""

import numpy as np
import tensorflow as tf

from benchmarks import timing
from tfdet.detectors.postprocess import postprocess
from tfdet.losses.assignment import assign
from tfdet.losses.detection import LossConfig, dense_loss_terms
from tfdet.ops.anchors import AnchorConfig, anchors
from tfdet.ops.nms import NMSConfig

IMAGE_SIZE = (512, 512)
CLASSES, SLOTS = 90, 100
ANCHORS = anchors(AnchorConfig(), IMAGE_SIZE)


def predictions(batch: int) -> dict[str, tf.Tensor]:
    """Raw predictions with about the spread of a trained network."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-5, 1.2, (batch, len(ANCHORS), CLASSES))
    codes = rng.normal(0, 0.3, (batch, len(ANCHORS), 4))
    return {
        "class_logits": tf.constant(logits, tf.float32),
        "box_codes": tf.constant(codes, tf.float32),
    }


def targets(batch: int, objects: int) -> dict[str, tf.Tensor]:
    """`objects` boxes in every image, padded to 100."""
    rng = np.random.default_rng(0)
    boxes, labels = np.zeros((batch, SLOTS, 4)), np.full((batch, SLOTS), -1)
    corners = rng.uniform(0, 400, (batch, objects, 2))
    sizes = rng.uniform(8, 112, (batch, objects, 2))
    boxes[:, :objects] = np.concatenate([corners, corners + sizes], axis=-1)
    labels[:, :objects] = rng.integers(0, CLASSES, (batch, objects))
    return {"boxes": tf.constant(boxes, tf.float32), "labels": tf.constant(labels, tf.int32)}


def milliseconds(function, *arguments) -> float:
    """Median time of a compiled call."""
    compiled = tf.function(function)
    return 1e3 * timing.interleaved({"": lambda: compiled(*arguments)}, repeats=20)[""]


def losses_and_gradient(target, raw):
    """Both loss terms and the sums of their gradients."""
    with tf.GradientTape() as tape:
        tape.watch(raw)
        terms = dense_loss_terms(target, raw, ANCHORS, LossConfig())
        total = terms["class_loss"] + terms["box_loss"]
    return total, tf.nest.map_structure(tf.reduce_sum, tape.gradient(total, raw))


def main() -> None:
    serving = NMSConfig(mode="global", max_candidates=0)
    named = {"default": NMSConfig(), "hard": NMSConfig("hard"), "global, all anchors": serving}
    for batch in (1, 8):
        raw = predictions(batch)
        for name, nms in named.items():
            taken = milliseconds(lambda r, n=nms: postprocess(**r, **_rest(n)), raw)
            print(f"post-processing ({name}), batch {batch}: {taken:.0f} ms", flush=True)
    raw = predictions(4)
    for objects in (7, 30, 100):
        target = targets(4, objects)
        taken = milliseconds(lambda t: assign(ANCHORS, t["boxes"], t["labels"]), target)
        print(f"assignment, batch 4, {objects} objects each: {taken:.0f} ms", flush=True)
        taken = milliseconds(losses_and_gradient, target, raw)
        print(f"assignment, losses and gradients, batch 4, {objects} objects: {taken:.0f} ms")


def _rest(nms: NMSConfig) -> dict:
    return {"anchors": ANCHORS, "nms": nms, "image_size": IMAGE_SIZE}


if __name__ == "__main__":
    main()
