"""Tensors of parts that several of PyTorch's projects name alike, and what a model must be."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfdet.backbones import resnet
from tfdet.backbones.catalog import encoding_of, resolve
from tfdet.backbones.encoding import Block, Encoding
from tfdet.backbones.resnet import ResNet
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.cascade_config import CascadeConfig
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.errors import UserError
from tfdet.ops.boxes import CODE_WEIGHTS
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel, vector
from tfdet.weights.source import Model, Shapes, config_of, name_of

Convert = Callable[[np.ndarray], np.ndarray]

# Keys that do not change what a network computes: those of its classes and of post-processing.
_FREE = ("num_classes", "class_ids", "class_names", "nms.")
_CODE_ORDER = (1, 0, 3, 2)  # (x, y, w, h) to (y, x, h, w)


class Owner(NamedTuple):
    """The detector that a backbone's weights are for: a model itself, or the first of a cascade.

    Attributes:
        prefix: of its keys in the model's configuration, "" or "first.".
        config: its configuration.
        name: what the model is called, for messages.
    """

    prefix: str
    config: Any
    name: str


def owner_of(model: Model) -> Owner:
    """The detector that has the first backbone, of a registered model or a configuration."""
    config, name = config_of(model), name_of(model)
    if isinstance(config, CascadeConfig):
        return Owner("first.", config.part("first")[1], name)
    return Owner("", config, name)


def backbone_owner(model: keras.Model, title: str) -> BackboneDetector:
    """The same of a model that was created."""
    owner = model.first if isinstance(model, DynamicDetector) else model
    if not isinstance(owner, BackboneDetector) or not hasattr(owner.config, "backbone"):
        raise UserError(
            f"{type(model).__name__} has no backbone of its own that {title}'s weights could be for"
        )
    return owner


def own_backbone(owner: Owner, title: str) -> Any:
    """The backbone that a detector has by itself; a `UserError` where it cannot be chosen."""
    own = getattr(owner.config, "backbone", None)
    if own is None:
        raise UserError(
            f"{owner.name} has no backbone that {title}'s weights could be for; give it weights "
            "that `tfdet-weights list` has for it"
        )
    return own


def check(model: BackboneDetector, settings: Mapping[str, Any], title: str) -> None:
    """Refuses a model whose configuration makes another function than `settings` do."""
    for key, wanted in settings.items():
        if key.startswith(_FREE):
            continue
        found = model.config
        for part in key.split("."):
            found = getattr(found, part)
        if key == "backbone":
            found, wanted = (_backbone_name(value) for value in (found, wanted))
        if found != wanted:
            raise UserError(
                f"{title}'s weights are for a model with {key}={_shown(wanted)}, this one has "
                f"{key}={_shown(found)}, which would make another function of them; create it with "
                f"{key}={_shown(wanted)}"
            )


def _backbone_name(value: str | Encoding) -> str | Encoding:
    value = resolve(value)
    return style_name(value) if isinstance(value, Encoding) else value


def _shown(value: Any) -> str:
    if not isinstance(value, Encoding):
        return repr(value)
    strides = "1x1" if value.strides_first else "3x3"
    return (
        f"an encoding of {value.depths} blocks, stride in the {strides}, epsilon={value.epsilon:g}"
    )


def existing(entries: Iterable[CheckpointTensor], shapes: Shapes) -> list[CheckpointTensor]:
    """Without the unused tensors that a file does not have: not all files keep counters."""
    return [x for x in entries if x.variable is not None or x.name in shapes]


def unused(shapes: Shapes, *prefixes: str) -> list[CheckpointTensor]:
    """The tensors of a file that begin so, as deliberately unused."""
    return [
        CheckpointTensor(name, tuple(shape), None)
        for name, shape in shapes.items()
        if name.startswith(prefixes)
    ]


def spelled(shapes: Shapes, *names: str) -> str:
    """That of these names which the file has, with ".weight"; the last if it has none."""
    return next((name for name in names if f"{name}.weight" in shapes), names[-1])


def conv(name: str, layer: Any) -> Iterator[CheckpointTensor]:
    """Kernel and bias of a convolution."""
    yield kernel(f"{name}.weight", layer)
    yield vector(f"{name}.bias", layer.bias)


def depthwise(name: str, layer: Any) -> CheckpointTensor:
    """The kernel of a depthwise convolution, [C, 1, H, W] in the checkpoint."""
    height, width, channels, _ = layer.kernel.shape
    return CheckpointTensor(
        name, (channels, 1, height, width), layer.kernel, lambda x: x.transpose(2, 3, 0, 1)
    )


def inverted_residual(block: Any, names: Sequence[str]) -> Iterator[CheckpointTensor]:
    """The tensors of a MobileNetV2's block.

    Args:
        block: ours.
        names: of its convolutions and batch norms in their order: six, or four of a block without
            an expansion.
    """
    if block.expansion is not None:
        yield kernel(f"{names[0]}.weight", block.expansion)
        yield from batch_norm(names[1], block.expansion_bn)
    yield depthwise(f"{names[-4]}.weight", block.depthwise)
    yield from batch_norm(names[-3], block.depthwise_bn)
    yield kernel(f"{names[-2]}.weight", block.projection)
    yield from batch_norm(names[-1], block.projection_bn)


def dense_kernel(name: str, layer: Any) -> CheckpointTensor:
    """The kernel of a dense layer, [outputs, inputs] in the checkpoint."""
    inputs, outputs = layer.kernel.shape
    return CheckpointTensor(name, (outputs, inputs), layer.kernel, np.transpose)


def dense(name: str, layer: Any) -> Iterator[CheckpointTensor]:
    """Kernel and bias of a dense layer."""
    yield dense_kernel(f"{name}.weight", layer)
    yield vector(f"{name}.bias", layer.bias)


def transposed(name: str, layer: Any) -> Iterator[CheckpointTensor]:
    """Kernel [inputs, outputs, H, W] and bias of a transposed convolution."""
    height, width, outputs, inputs = layer.kernel.shape
    yield CheckpointTensor(f"{name}.weight", (inputs, outputs, height, width), layer.kernel)
    yield vector(f"{name}.bias", layer.bias)


def norm(name: str, layer: Any) -> Iterator[CheckpointTensor]:
    """Scale and shift of a group or layer norm."""
    yield vector(f"{name}.weight", layer.gamma)
    yield vector(f"{name}.bias", layer.beta)


def outputs(
    name: str, layer: Any, rows: Convert, count: int, per_class: bool = False
) -> Iterator[CheckpointTensor]:
    """Kernel and bias of a predictor whose outputs stand in another order there.

    Args:
        name: of the layer.
        layer: ours, a convolution or a dense layer.
        rows: takes the outputs, along the first axis of an array, to our order.
        count: outputs there.
        per_class: see `CheckpointTensor`.
    """
    *window, inputs, _ = layer.kernel.shape
    axes = (2, 3, 1, 0) if window else (1, 0)
    yield CheckpointTensor(
        f"{name}.weight",
        (count, inputs, *window),
        layer.kernel,
        lambda x: rows(x).transpose(axes),
        per_class,
    )
    yield CheckpointTensor(f"{name}.bias", (count,), layer.bias, rows, per_class)


def fixed(
    name: str, shape: tuple[int, ...], variable: keras.Variable, value: float
) -> CheckpointTensor:
    """A variable of ours that the source's network has as a constant, beside one of its tensors."""
    return CheckpointTensor(
        name, tuple(shape), variable, lambda _: np.full(variable.shape, value, np.float32)
    )


def numbers(
    name: str, shape: tuple[int, ...], variable: keras.Variable
) -> Iterator[CheckpointTensor]:
    """A vector of ours each of whose numbers is a tensor there, such as "scales.{}.scale"."""

    def at(i: int) -> Convert:
        def convert(array: np.ndarray) -> np.ndarray:
            whole = keras.ops.convert_to_numpy(variable).copy()
            whole[i] = array.item()
            return whole

        return convert

    for i in range(variable.shape[0]):
        yield CheckpointTensor(name.format(i), shape, variable, at(i))


def turned(tensor: CheckpointTensor) -> CheckpointTensor:
    """The kernel of a first convolution that reads blue, green, red there."""
    return tensor._replace(convert=lambda x: x[:, ::-1].transpose(2, 3, 1, 0))


def codes(array: np.ndarray, weighted: bool = False) -> np.ndarray:
    """Outputs [A * 4, ...] for codes (x, y, w, h) as those for (y, x, h, w).

    Args:
        array: kernel or bias, outputs first.
        weighted: our codes are multiples, `CODE_WEIGHTS` times those.
    """
    rows = array.reshape(-1, 4, *array.shape[1:])[:, _CODE_ORDER]
    if weighted:
        rows = rows * CODE_WEIGHTS.reshape(4, *[1] * (rows.ndim - 2))
    return rows.reshape(array.shape)


def weighted_codes(array: np.ndarray) -> np.ndarray:
    """`codes` of a layer whose codes are not multiples."""
    return codes(array, weighted=True)


def maps_first(features: int, bins: int) -> Convert:
    """Takes a kernel [outputs, C * bins * bins] to [bins * bins * C, outputs]."""

    def convert(array: np.ndarray) -> np.ndarray:
        array = array.reshape(-1, features, bins, bins)
        return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])

    return convert


def first_dense(name: str, layer: Any, features: int, bins: int = 7) -> Iterator[CheckpointTensor]:
    """The first dense layer of a box head, which reads features in the order C, H, W there."""
    entry = dense_kernel(f"{name}.weight", layer)
    yield entry._replace(convert=maps_first(features, bins))
    yield vector(f"{name}.bias", layer.bias)


def fpn(lateral: list[str], output: list[str], coarse: list[str], neck: Any) -> Iterator[Any]:
    """The tensors of a feature pyramid, by the names of its convolutions, finest level first."""
    for names, layers in (
        (lateral, neck.lateral),
        (output, neck.output_convs),
        (coarse, {k: v for k, v in neck.coarse.items() if v is not None}),
    ):
        for name, layer in zip(names, layers.values(), strict=True):
            yield from conv(name, layer)


def resnet_tensors(prefix: str, backbone: ResNet) -> Iterator[CheckpointTensor]:
    """The tensors of a ResNet by torchvision's names, which PyTorch's projects share."""
    yield kernel(f"{prefix}conv1.weight", backbone.stem_conv)
    yield from batch_norm(f"{prefix}bn1", backbone.stem_bn)
    for number, blocks in enumerate(backbone.stages, start=1):
        for i, block in enumerate(blocks):
            yield from _block(f"{prefix}layer{number}.{i}", block)


def _block(prefix: str, block: Any) -> Iterator[CheckpointTensor]:
    for i in range(1, 4 if hasattr(block, "conv3") else 3):
        layer = getattr(block, f"conv{i}")
        if block.block.deformable and i == 2:
            yield from deformable(f"{prefix}.conv2", layer)
        else:
            yield kernel(f"{prefix}.conv{i}.weight", layer)
        yield from batch_norm(f"{prefix}.bn{i}", getattr(block, f"bn{i}"))
    if block.projection is not None:
        yield kernel(f"{prefix}.downsample.0.weight", block.projection)
        yield from batch_norm(f"{prefix}.downsample.1", block.projection_bn)


def deformable(name: str, layer: Any) -> Iterator[CheckpointTensor]:
    """A modulated deformable convolution by mmdetection's names."""
    yield kernel(f"{name}.weight", layer)
    if layer.bias is not None:
        yield vector(f"{name}.bias", layer.bias)
    yield from conv(f"{name}.conv_offset", layer.offset)


def is_resnet(prefix: str, shapes: Shapes) -> bool:
    """Whether a file has a ResNet by those names."""
    return {f"{prefix}conv1.weight", f"{prefix}layer1.0.conv1.weight"} <= shapes.keys()


def resnet_style(
    own: str | Encoding, prefix: str, shapes: Shapes, title: str, **habits: Any
) -> str | Encoding:
    """A model's ResNet with the habits of a file's, as a name where it has one.

    Args:
        own: the backbone that the model has by itself.
        prefix: of the ResNet's names in the file.
        shapes: of the file.
        title: the file's project.
        **habits: `strides_first` and `epsilon` of the file's ResNet.
    """
    encoding = encoding_of(own)
    if encoding is None or _kernels(encoding) != _kernels_there(prefix, shapes):
        found = "x".join(str(n) for n in _depths_there(prefix, shapes))
        mine = own if isinstance(own, str) else _shown(own)
        raise UserError(
            f"these weights of {title} are for a ResNet with {found} blocks, and the model's "
            f"backbone is {mine}, which has other shapes; {_other_backbone(prefix, shapes, habits)}"
        )
    fields = {f: getattr(encoding, f) for f in ("stages", "stem")}
    return style_name(Encoding(**fields, **habits))


def _other_backbone(prefix: str, shapes: Shapes, habits: Mapping[str, Any]) -> str:
    """Which backbone to choose for a file's ResNet, as advice."""
    there = _kernels_there(prefix, shapes)
    for name, style in resnet.STYLES.items():
        is_alike = all(getattr(style, habit) == value for habit, value in habits.items())
        if is_alike and _kernels(style) == there:
            return f"choose a model with the backbone {name}, or set backbone: {name}"
    return "no backbone with a name has those"


def style_name(encoding: Encoding) -> str | Encoding:
    """The name of an encoding, or itself where it has none."""
    names = (name for name, style in resnet.STYLES.items() if style == encoding)
    return next(names, encoding)


def _kernels(encoding: Encoding) -> dict[str, tuple[int, ...]]:
    """Shapes of a ResNet's convolutions, as they stand in a file without prefix."""
    shapes: dict[str, tuple[int, ...]] = {"conv1": (encoding.stem, 3, 7, 7)}
    for place, block in encoding.blocks():
        name = f"layer{place.stage}.{place.index}"
        inputs = encoding.in_width(place)
        for i, (width, size) in enumerate(zip(block.widths, _sizes(block), strict=True), start=1):
            groups = block.groups if size == 3 else 1
            before = block.widths[i - 2] if i > 1 else inputs
            shapes[f"{name}.conv{i}"] = (width, before // groups, size, size)
            if block.deformable and i == 2:
                shapes[f"{name}.conv2.conv_offset"] = (27, before, 3, 3)
        if block.projection:
            shapes[f"{name}.downsample.0"] = (block.out_width, inputs, 1, 1)
    return shapes


def _sizes(block: Block) -> tuple[int, ...]:
    return (3, 3) if block.is_basic else (1, 3, 1)


def _kernels_there(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    end = ".weight"
    return {
        name[len(prefix) : -len(end)]: tuple(shape)
        for name, shape in shapes.items()
        if name.startswith((f"{prefix}conv1.", f"{prefix}layer"))
        and name.endswith(end)
        and len(shape) == 4
    }


def _depths_there(prefix: str, shapes: Shapes) -> tuple[int, ...]:
    """Blocks of each stage of a file's ResNet."""
    stages: dict[str, set[str]] = {}
    for name in _kernels_there(prefix, shapes):
        if name.startswith("layer"):
            stage, block, *_ = name.split(".")
            stages.setdefault(stage, set()).add(block)
    return tuple(len(blocks) for _, blocks in sorted(stages.items()))


def swin_block(
    prefix: str, block: Any, shapes: Shapes, attention: str, dense1: str, dense2: str
) -> Iterator[CheckpointTensor]:
    """The tensors of a block with windows.

    Args:
        prefix: of the block.
        block: ours.
        shapes: of the checkpoint.
        attention, dense1, dense2: what the project calls these parts of it.
    """
    own, name = block.attention, f"{prefix}.{attention}"
    yield from norm(f"{prefix}.norm1", block.norm1)
    yield from dense(f"{name}.qkv", own.qkv)
    yield from dense(f"{name}.proj", own.project)
    yield vector(f"{name}.relative_position_bias_table", own.position_bias)
    yield from unused(shapes, f"{name}.relative_position_index")
    yield from norm(f"{prefix}.norm2", block.norm2)
    yield from dense(f"{prefix}.{dense1}", block.dense1)
    yield from dense(f"{prefix}.{dense2}", block.dense2)
