"""A two-stage detector that learns from a larger one while it is trained.

    model = Distilled(student, teacher, DistillConfig(feature_weight=10))
    model.compile(optimizer=...); model.fit(batches)
    student.save_weights(...)  # there is no trace of the teacher in it

In a recipe: `train: {distill: {teacher: runs/teacher}}`.
"""

from typing import Any

from keras import ops

from tfdet.detectors.base import Detector
from tfdet.detectors.faster_rcnn import REGION_LEVELS, FasterRCNN
from tfdet.errors import UserError
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.losses import feature_masks
from tfdet.losses.distillation import DistillConfig, distillation_loss_terms
from tfdet.ops import anchors
from tfdet.training import trained
from tfdet.training.wrapper import TrainingWrapper, Untracked

# Parts that both a student and its teacher have, and that are compared in size.
_SHARED_PARTS = ("backbone", "neck", "rpn", "box_head")


class Distilled(TrainingWrapper):
    """A student and a teacher that looks at the same regions: the student's own samples.

    The teacher runs in inference mode, is not changed, and is not saved. The convolution that takes
    the student's features to the teacher's width is trained, and forgotten in the end.

    Args:
        student: a built Faster R-CNN or Mask R-CNN.
        teacher: another one, with the same classes.
        config: what is learned from it.
    """

    def __init__(self, student: FasterRCNN, teacher: FasterRCNN, config: DistillConfig):
        check_pair(student, teacher, config.allow_smaller)
        super().__init__(student, config.terms, "distilled")
        self._teacher = Untracked(teacher)
        self.distillation = config
        self.adapter = None
        if config.feature_weight:
            self.adapter = SymmetricConv2D(teacher.config.fpn_width, 3, name="adapter")
            self.adapter.build((None, None, None, student.config.fpn_width))

    @property
    def teacher(self) -> FasterRCNN:
        return self._teacher.value

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        maps = self.teacher.pyramid(images, training=False)
        maps = {name: ops.stop_gradient(maps[name]) for name in REGION_LEVELS}
        return {**self.inner(images, training=training), "teacher_maps": maps}

    def loss_terms(
        self, targets: dict[str, Any], raw: dict[str, Any], training: bool = False
    ) -> dict[str, Any]:
        raw = self.inner.sampled(targets, raw)
        samples = raw["samples"]
        theirs = self.teacher.regions(raw["teacher_maps"], samples.boxes)
        terms = super().loss_terms(targets, raw, training)
        ours, mask = raw["regions"], None
        if self.adapter is not None and self.distillation.feature_mask == "regions":
            features = self._adapted(raw["maps"], ours["features"], samples.boxes)
            ours = {**ours, "features": features}
        elif self.adapter is not None:
            mask = self._mask(targets, raw["maps"])
            ours = {**ours, "features": [self.adapter(raw["maps"][k]) for k in REGION_LEVELS]}
            theirs = {**theirs, "features": [raw["teacher_maps"][k] for k in REGION_LEVELS]}
        added = distillation_loss_terms(ours, theirs, samples, self.distillation, mask)
        return {**terms, **added}

    def _mask(self, targets: dict[str, Any], maps: dict[str, Any]) -> Any:
        """Weights of all cells of the maps that regions are read from, [B, cells]."""
        levels = tuple(int(name[1:]) for name in REGION_LEVELS)
        sizes = {level: tuple(maps[f"P{level}"].shape[1:3]) for level in levels}
        kind, config = self.distillation.feature_mask, self.inner.config.anchors
        if kind == "whole":
            cells = sum(height * width for height, width in sizes.values())
            return feature_masks.whole_mask(ops.shape(maps["P2"])[0], cells)
        if kind == "gaussian":
            return feature_masks.gaussian_mask(targets, feature_masks.cell_centers(sizes))
        # Of the maps, not of the configuration: canvases of other sizes can be trained on.
        canvas = tuple(side * 2 ** levels[0] for side in sizes[levels[0]])
        boxes = anchors.anchors(config, canvas, levels)
        return feature_masks.anchor_mask(targets, boxes, config.anchors_per_cell)

    def _adapted(self, maps: dict[str, Any], features: Any, boxes: Any) -> Any:
        """The student's features of the boxes, [B, S, 7, 7, width of the teacher]."""
        if self.distillation.adapt == "maps":
            return self.inner.align({k: self.adapter(x) for k, x in maps.items()}, boxes)
        shape = ops.shape(features)
        crops = self.adapter(ops.reshape(features, (-1, *features.shape[2:])))
        return ops.reshape(crops, (*shape[:4], crops.shape[-1]))


def load_teacher(source: str) -> FasterRCNN:
    """The trained two-stage detector of a folder, frozen."""
    teacher = trained.load_trained(source)
    _check_two_stage(teacher, f"the teacher {source}")
    teacher.trainable = False
    return teacher


def check_pair(student: Detector, teacher: Detector, allow_smaller: bool = False) -> None:
    """Refuses a student and a teacher that cannot be compared region by region."""
    for role, detector in (("student", student), ("teacher", teacher)):
        _check_two_stage(detector, f"the {role} {detector.name}")
    ours, theirs = student.class_names, teacher.class_names
    are_named = student.config.class_names and teacher.config.class_names
    if len(ours) != len(theirs) or (are_named and ours != theirs):
        raise UserError(
            f"the teacher's classes ({_some(theirs)}) are not the student's ({_some(ours)}); train "
            "a teacher on the same data set"
        )
    sizes = parameters(student), parameters(teacher)
    if sizes[1] < sizes[0] and not allow_smaller:
        raise UserError(
            f"the teacher has {sizes[1]:,} parameters, fewer than the student's {sizes[0]:,}; "
            "choose a larger teacher, or set distill.allow_smaller to true"
        )


def parameters(detector: FasterRCNN) -> int:
    """Parameters of the parts that all two-stage detectors have."""
    layers = [layer for name in _SHARED_PARTS for layer in detector.parts[name]]
    return sum(layer.count_params() for layer in layers)


def _check_two_stage(detector: Any, what: str) -> None:
    if not isinstance(detector, FasterRCNN):
        raise UserError(
            f"{what} is a {type(detector).__name__}, which has no regions to distil; "
            "both must be Faster R-CNNs or Mask R-CNNs"
        )


def _some(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if names[3:] else ''}"
