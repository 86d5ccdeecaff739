"""What a two-stage student learns from a teacher, after Joint-DetNAS.

https://arxiv.org/abs/2105.12971; the formulas are reconstructed, so that readings are chosen by
`DistillConfig`.
"""

import dataclasses
from typing import Any, Literal

import keras
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.feature_masks import masked_feature_loss
from tfdet.losses.roi import Samples
from tfdet.tensors import Tensor

BoxKind = Literal["class_aware", "plain", "object_class", "teacher_class"]
FeatureMask = Literal["regions", "whole", "anchors", "gaussian"]

# The parts, by the keys of their weights.
PARTS = {
    "feature_weight": "distill_feature_loss",
    "class_weight": "distill_class_loss",
    "box_weight": "distill_box_loss",
}


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """A teacher, and how much a student follows it.

    Attributes:
        teacher: a folder that tfdet-train wrote with a two-stage detector; "" teaches nothing.
        feature_weight: of the imitation of features; a part with weight 0 is left out.
        feature_mask: which features. "regions": of the regions that the student samples,
            Joint-DetNAS's proposal features. The others are its baselines, cells of the maps that
            regions are read from, see `losses.feature_masks`: "whole": all of them, as the hints of
            FitNets; "anchors": cells whose anchors are near an object, as FGFI; "gaussian": cells
            within objects, the middle most, as the task adaptive regularization of distillation.
        class_weight: of the classification.
        box_weight: of the box codes.
        box: whose codes count. "class_aware": those of all classes, weighted by the teacher's
            probabilities, so that background drops out by itself; "plain": the mean of all classes;
            "object_class", "teacher_class": of one class, that of the sampled object or the one
            the teacher believes in most, and nothing where it is the background.
        temperature: logits are divided by it, and the loss of classes multiplied by its square.
        adapt: the student's features meet the teacher's after a 3x3 convolution of the crops of
            "regions", or of the "maps" that they are cut from, which is cheaper. With another
            `feature_mask` than "regions" there are no crops, and it runs on the maps.
        allow_smaller: a teacher may have fewer parameters than its student.
    """

    teacher: str = ""
    feature_weight: float = 1.0
    feature_mask: FeatureMask = "regions"
    class_weight: float = 1.0
    box_weight: float = 1.0
    box: BoxKind = "class_aware"
    temperature: float = 1.0
    adapt: Literal["regions", "maps"] = "regions"
    allow_smaller: bool = False

    def __post_init__(self) -> None:
        for name in PARTS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"distill.{name} must be at least 0, got {getattr(self, name)}")
        if not self.terms:
            raise UserError(f"distill needs one of {', '.join(PARTS)} above 0")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"distill.temperature must be above 0, got {self.temperature}")

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms that there are."""
        return tuple(term for name, term in PARTS.items() if getattr(self, name))


def distillation_loss_terms(
    student: dict[str, Any],
    teacher: dict[str, Any],
    samples: Samples,
    config: DistillConfig,
    mask: Any = None,
) -> dict[str, Any]:
    """The weighted loss terms `config.terms`, each a float32 scalar.

    Args:
        student: of the samples: "class_logits" [B, S, C + 1], "box_codes" [B, S, 4 * C] and, unless
            `feature_weight` is 0, "features" adapted to the teacher's width F: [B, S, h, w, F], or
            with another `feature_mask` than "regions" a list of maps [B, h, w, F].
        teacher: the same of the teacher; no gradient goes there.
        samples: the regions; rows that are not sampled do not count.
        config: of the terms.
        mask: [B, cells] weights of all cells of those maps, see `losses.feature_masks`.
    """
    teacher = keras.tree.map_structure(ops.stop_gradient, teacher)
    weights = ops.cast(samples.is_sampled, "float32")
    total = ops.maximum(replicas.sum_over_replicas(ops.sum(weights)), 1.0)

    def features() -> Any:
        pair = student["features"], teacher["features"]
        return mean(feature_errors(*pair)) if mask is None else masked_feature_loss(*pair, mask)

    def mean(per_region: Any) -> Any:
        return ops.sum(per_region * weights) / total

    losses = {
        "distill_feature_loss": features,
        "distill_class_loss": lambda: mean(
            class_errors(student["class_logits"], teacher["class_logits"], config.temperature)
        ),
        "distill_box_loss": lambda: mean(box_errors(student, teacher, samples.labels, config.box)),
    }
    return {
        term: getattr(config, name) * losses[term]()
        for name, term in PARTS.items()
        if term in config.terms
    }


def feature_errors(student: Any, teacher: Any) -> Any:
    """Mean squared difference of each region's features: [B, S, h, w, F] -> [B, S]."""
    difference = ops.cast(student, "float32") - ops.cast(teacher, "float32")
    return ops.mean(ops.square(difference), axis=(2, 3, 4))


def class_errors(student: Any, teacher: Any, temperature: float = 1.0) -> Any:
    """KL(teacher || student) of each region, times temperature squared: logits -> [B, S]."""
    ours, theirs = (
        ops.log_softmax(ops.cast(logits, "float32") / temperature) for logits in (student, teacher)
    )
    return temperature**2 * ops.sum(ops.exp(theirs) * (theirs - ours), axis=-1)


def box_errors(
    student: dict[str, Any], teacher: dict[str, Any], labels: Tensor, kind: BoxKind
) -> Any:
    """L1 distance of each region's box codes, [B, S].

    Args:
        student, teacher: see `distillation_loss_terms`.
        labels: [B, S] class of the sampled object, -1 = background.
        kind: whose codes count, see `DistillConfig.box`.
    """
    ours, theirs = (ops.cast(part["box_codes"], "float32") for part in (student, teacher))
    classes = ours.shape[-1] // 4
    shape = (*ops.shape(ours)[:2], classes, 4)
    errors = ops.sum(ops.abs(ops.reshape(ours - theirs, shape)), axis=-1)  # [B, S, C]
    return ops.sum(errors * _class_weights(teacher["class_logits"], labels, classes, kind), axis=-1)


def _class_weights(logits: Tensor, labels: Tensor, classes: int, kind: BoxKind) -> Any:
    """How much each class counts for each region, [B, S, C] or what broadcasts to it."""
    if kind == "plain":
        return 1.0 / classes
    if kind == "class_aware":
        return ops.softmax(ops.cast(logits, "float32"))[..., :classes]
    if kind == "teacher_class":
        labels = ops.argmax(logits, axis=-1)  # the background is the last one
    return ops.cast(
        ops.expand_dims(labels, -1) == ops.arange(classes, dtype=labels.dtype), "float32"
    )
