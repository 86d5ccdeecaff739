"""Mask R-CNN (https://arxiv.org/abs/1703.06870) with a feature pyramid, as mmdetection has it."""

import dataclasses
from typing import Any

import keras
from keras import ops

from tfdet import registry
from tfdet.backbones.protocol import Backbone
from tfdet.detectors import faster_rcnn
from tfdet.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from tfdet.errors import UserError
from tfdet.heads.mask import MaskHead
from tfdet.losses.mask import mask_loss_term, own_masks
from tfdet.losses.roi import Samples
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class MaskRCNNConfig(FasterRCNNConfig):
    """All that makes a Mask R-CNN; fields of `FasterRCNNConfig` and these.

    Attributes:
        mask_filters, mask_repeats: see `heads.mask.MaskHead`.
        target_size: side of the masks that objects have in training, in the frames of their boxes.
    """

    mask_filters: int = 256
    mask_repeats: int = 4
    target_size: int = 112

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("mask_filters", "mask_repeats", "target_size")


@keras.saving.register_keras_serializable(package="tfdet")
class MaskRCNN(FasterRCNN):
    """A Faster R-CNN that also finds which pixels belong to each object.

    Targets have "masks", uint8 [B, M, Q, Q]: 1 where an object is, in the frame of its box.
    `call` also returns, except in training, "found", the detections without masks, and
    "mask_logits" [B, N, 28, 28] of their classes. Detections have "masks", float32
    [B, N, 28, 28]: probabilities in the frames of the boxes; `ops.masks.paste` puts them into
    images.

    Example:
        model = tfdet.create("mask-rcnn-r50", num_classes=3)
        detections = model.predict(images)

    Args:
        config, backbone, neck: see `FasterRCNN`.
    """

    config_class = MaskRCNNConfig
    term_names = (*FasterRCNN.term_names, "mask_loss")

    def __init__(
        self,
        config: MaskRCNNConfig,
        backbone: Backbone | None = None,
        neck: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(config, backbone, neck, **kwargs)
        self.mask_align = self.make_align(14, "mask_align")
        self.mask_head = MaskHead(
            config.num_classes, config.mask_filters, config.mask_repeats, name="mask_head"
        )
        self.find = _Found(super().decode, config.nms.max_detections, name="find")

    @property
    def mask_size(self) -> int:
        return self.config.target_size

    @property
    def found_mask_size(self) -> int:
        return 2 * self.mask_align.bins

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return {**super().parts, "mask_head": [self.mask_head]}

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        raw = super().predictions(taps, training, image_size)
        if training:
            return raw
        found = self.find(raw, image_size=image_size or self.image_size)
        logits = self.mask_head(self.mask_align(raw["maps"], found["boxes"]))
        return {**raw, "found": found, "mask_logits": own_masks(logits, found["labels"])}

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        if "masks" not in targets:
            raise UserError(
                "Mask R-CNN learns from masks, and these targets have none; use a data set with "
                "outlines, or a Faster R-CNN"
            )
        raw = self.sampled(targets, raw)
        terms = super().loss_terms(targets, raw, training)
        # Positives come first: no mask is predicted for the others.
        count = min(self.config.roi_loss.max_positives, raw["samples"].boxes.shape[1])
        samples = Samples(*(x[:, :count] for x in raw["samples"]))
        logits = self.mask_head(self.mask_align(raw["maps"], samples.boxes))
        return {**terms, "mask_loss": mask_loss_term(logits, targets, samples)}

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        is_found = (raw["found"]["labels"] >= 0)[..., None, None]
        chances = ops.sigmoid(ops.cast(raw["mask_logits"], "float32"))
        return {**raw["found"], "masks": ops.where(is_found, chances, 0.0)}


class _Found(keras.layers.Layer):
    """The box detections, as a layer: their loop cannot run on shapes alone."""

    def __init__(self, decode: Any, rows: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.decode = decode
        self.rows = rows
        self.built = True

    def call(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return self.decode(raw, image_size)

    def compute_output_spec(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        batch = raw["class_logits"].shape[0]
        shapes = {
            "boxes": ((batch, self.rows, 4), "float32"),
            "scores": ((batch, self.rows), "float32"),
            "labels": ((batch, self.rows), "int32"),
            "count": ((batch,), "int32"),
        }
        return {name: keras.KerasTensor(*spec) for name, spec in shapes.items()}


def _with_masks(config: FasterRCNNConfig, **changes: Any) -> MaskRCNNConfig:
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return MaskRCNNConfig(**fields, **changes)


# Trained with AdamW, whose own decay takes the place of the L2 loss.
_SWIN = MaskRCNNConfig(backbone="swin-t", frozen_stages=0, weight_decay=0.0)

for _name, _entry in {
    "r50": MaskRCNNConfig(),
    "swin-t": _SWIN,
    "swin-s": dataclasses.replace(_SWIN, backbone="swin-s"),
    # Ours, to be trained on small images without a GPU, and for unit tests.
    "nano": _with_masks(faster_rcnn.NANO, mask_filters=32, mask_repeats=2, target_size=56),
    "test": _with_masks(faster_rcnn.TEST, mask_filters=8, mask_repeats=1, target_size=28),
}.items():
    registry.register(f"mask-rcnn-{_name}", MaskRCNN, _entry)
