"""Which EfficientDet a checkpoint is of, whatever its tensors are called."""

from typing import Any, NamedTuple

import keras

from tfdet import registry
from tfdet.backbones.efficientnet import own_activation, own_pixels
from tfdet.detectors.efficientdet import EfficientDet, EfficientDetConfig
from tfdet.errors import UserError
from tfdet.weights.source import Model, config_of, name_of

# (width, height) of the anchors in the first checkpoints; later ones have square roots.
PAIRS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
ANCHORS_PER_CELL = 9


class Variant(NamedTuple):
    """What the shapes of a checkpoint say about its network; fields as in `EfficientDetConfig`."""

    backbone: str
    fpn_width: int
    fpn_cells: int
    head_repeats: int
    max_level: int
    is_weighted: bool


def _variant_of(config: EfficientDetConfig) -> Variant:
    return Variant(
        config.backbone,
        config.fpn_width,
        config.fpn_cells,
        config.head_repeats,
        config.max_level,
        config.fpn_fusion != "sum",
    )


def settings(model: Model, variant: Variant, classes: int) -> dict[str, Any]:
    """Keys of a published model with the classes of a checkpoint."""
    config, name = config_of(model), name_of(model)
    if not isinstance(config, EfficientDetConfig) or _variant_of(config) != variant:
        raise UserError(
            f"the weights are of an EfficientDet with {_said(variant)}, which {name} is not; "
            f"{_offered(variant)}"
        )
    return {"num_classes": classes, **_function(variant)}


def _function(variant: Variant) -> dict[str, Any]:
    """Keys that change what is computed, beyond the numbers of a variant."""
    return {
        "backbone": variant.backbone,
        "pixels": own_pixels(variant.backbone),
        "activation": own_activation(variant.backbone),
        "fpn": "bifpn",
        "fpn_fusion": "fast" if variant.is_weighted else "sum",
        "fpn_conv_bn_act": False,
        "fpn_lateral_batch_norm": True,
        "fpn_pool_first": False,
        "head": "plain",
        "min_level": 3,
        "separable_conv": True,
    }


def check(model: keras.Model, variant: Variant) -> EfficientDet:
    """The model as the `EfficientDet` of a checkpoint; a `UserError` if it is another function."""
    if not isinstance(model, EfficientDet):
        raise UserError(
            f"the weights are of an EfficientDet with {_said(variant)}, the model is a "
            f"{type(model).__name__}; {_offered(variant)}"
        )
    config = model.config
    if _variant_of(config) != variant:
        raise UserError(
            f"the weights are of an EfficientDet with {_said(variant)}, the model has "
            f"{_said(_variant_of(config))}; {_offered(variant)}"
        )
    for key, value in _function(variant).items():
        if getattr(config, key) != value:
            raise UserError(
                f"the weights are for {key}={value!r}, the model has {getattr(config, key)!r}, "
                f"which would make another function of them; set {key}: {value}"
            )
    if config.anchors.anchors_per_cell != ANCHORS_PER_CELL or config.head_drop_rate:
        raise UserError(
            f"the weights are for {ANCHORS_PER_CELL} anchors per cell and heads without residuals "
            f"(head_drop_rate 0), the model has {config.anchors.anchors_per_cell} and "
            f"{config.head_drop_rate}; leave those keys as the published model has them"
        )
    return model


def _said(variant: Variant) -> str:
    fusion = "weighted" if variant.is_weighted else "plain"
    return (
        f"backbone {variant.backbone}, {variant.fpn_cells} cells of {variant.fpn_width} channels "
        f"with {fusion} sums up to P{variant.max_level}, and {variant.head_repeats} convolutions "
        "in its heads"
    )


def _offered(variant: Variant) -> str:
    names = [
        name
        for name in registry.families()["efficientdet"]
        if _variant_of(registry.config(name)) == variant
    ]
    return f"use {' or '.join(names)}" if names else "no registered model is"
