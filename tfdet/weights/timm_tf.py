"""EfficientNets of timm whose names begin with `tf_`, ported from Google's checkpoints.

timm has others with the same tensors, `efficientnet_b0` and so on, which pad symmetrically and have
another epsilon in their batch norms: a function that no backbone here is. No tensor distinguishes
    the two
apart, so that the project of a file has to be named: "timm_tf:FILE". Those named `_ap` (AdvProp)
take other pixels and are not meant either.
"""

from typing import Any

import keras

from tfdet.backbones.efficientnet import own_pixels
from tfdet.weights import effdet, efficientnet
from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.source import Model, Shapes, Source

_MARKS = {"conv_stem.weight", "bn1.weight", "blocks.0.0.conv_dw.weight"}
_CLASSIFIER = ("conv_head.", "bn2.", "classifier.")


def _settings(model: Model, shapes: Shapes) -> dict[str, Any]:
    scale = effdet.scale_of(shapes, "")
    return efficientnet.settings(model, scale, own_pixels(scale))


def _entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    scale = effdet.scale_of(shapes, "")
    backbones = efficientnet.backbones(model, scale, own_pixels(scale), "timm's tf_efficientnet")
    unused = (name for name in shapes if name.startswith(_CLASSIFIER))
    return [
        *(entry for backbone in backbones for entry in effdet.backbone_tensors("", backbone)),
        *(CheckpointTensor(name, shapes[name], None) for name in unused),
    ]


SOURCE = Source(
    name="timm_tf",
    title="timm (PyTorch), EfficientNets named tf_efficientnet_*",
    recognises=lambda shapes: shapes.keys() >= _MARKS,
    backbone_only=lambda shapes: True,
    settings=_settings,
    entries=_entries,
    is_ambiguous=True,
)
