"""Detectron's ImageNet backbones: `R-50.pkl`, `R-101.pkl` (MSRA's) and `X-101-64x4d.pkl`.

Their batch norms are a factor and a shift. The images that they saw have the channels in the order
blue, green, red, and here red, green, blue: the first convolution is turned round.
"""

import re
from collections.abc import Iterator
from typing import Any

import keras

from tfdet.weights import parts
from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.source import Model, Shapes, Source

_TITLE = "Detectron"
# Our names of the parts of a batch norm, and what is constant.
_CONSTANT = {"running_mean": 0.0, "running_var": 1.0}
_BRANCHES = {"2a": "conv1", "2b": "conv2", "2c": "conv3", "1": "downsample.0"}
_NORMS = {"2a": "bn1", "2b": "bn2", "2c": "bn3", "1": "downsample.1"}
_ENDS = {"s": "weight", "b": "bias"}


def recognises(shapes: Shapes) -> bool:
    """See `Source`."""
    return {"conv1_w", "res2_0_branch2a_w"} <= shapes.keys()


def settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    """See `Source`."""
    owner = parts.owner_of(name)
    function = _function(parts.own_backbone(owner, _TITLE), shapes)
    return {f"{owner.prefix}{key}": value for key, value in function.items()}


def entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    """See `Source`."""
    owner = parts.backbone_owner(model, _TITLE)
    parts.check(owner, _function(owner.config.backbone, shapes), _TITLE)
    there = {ours: name for name in shapes if (ours := _our_name(name))}
    found = list(_tensors(owner.backbone, there, shapes))
    used = {x.name for x in found}
    rest = [name for name in shapes if name not in used and not _our_name(name)]
    return [*found, *(CheckpointTensor(name, tuple(shapes[name]), None) for name in rest)]


def _function(own: Any, shapes: Shapes) -> dict[str, Any]:
    """Keys of the configuration that make the same function."""
    ours = {ours: shape for name, shape in shapes.items() if (ours := _our_name(name))}
    kernel = ours["layer1.0.conv2.weight"]
    is_msra = kernel[0] == kernel[1]  # others have groups, and the stride in the 3x3
    habits = {"strides_first": is_msra, "epsilon": 0.0}
    backbone = parts.resnet_style(own, "", ours, _TITLE, **habits)
    return {"backbone": backbone, "pixels": "detectron"}


def _our_name(name: str) -> str | None:
    """The name that torchvision's ResNet has for a blob; None of blobs that it does not have."""
    if name == "conv1_w":
        return "conv1.weight"
    if found := re.fullmatch(r"res_conv1_bn_([sb])", name):
        return f"bn1.{_ENDS[found[1]]}"
    found = re.fullmatch(r"res([2-5])_(\d+)_branch(1|2[abc])_(w|bn_[sb])", name)
    if not found:
        return None
    stage, block, branch, end = found.groups()
    prefix = f"layer{int(stage) - 1}.{block}"
    if end == "w":
        return f"{prefix}.{_BRANCHES[branch]}.weight"
    return f"{prefix}.{_NORMS[branch]}.{_ENDS[end[-1]]}"


def _tensors(backbone: Any, there: dict[str, str], shapes: Shapes) -> Iterator[CheckpointTensor]:
    for tensor in parts.resnet_tensors("", backbone):
        stem, _, end = tensor.name.rpartition(".")
        if end in _CONSTANT:
            name = there.get(f"{stem}.weight", f"{stem}.weight")
            yield parts.fixed(name, tensor.shape, tensor.variable, _CONSTANT[end])
        elif tensor.variable is not None:
            tensor = tensor._replace(name=there.get(tensor.name, tensor.name))
            yield parts.turned(tensor) if stem == "conv1" else tensor


SOURCE = Source(
    name="detectron",
    title=_TITLE,
    recognises=recognises,
    backbone_only=lambda shapes: True,
    settings=settings,
    entries=entries,
)
