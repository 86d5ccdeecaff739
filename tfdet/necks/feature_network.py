"""The feature network: weighted fusion of maps across levels, BiFPN and its rivals."""

import dataclasses
from typing import Any

import keras
from keras import ops

from tfdet import records
from tfdet.layers.activation import activation
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.conv3x3 import conv3x3
from tfdet.layers.fusion import Fusion, Method, factors_of
from tfdet.layers.resample import Resample
from tfdet.necks.topologies import FPNNode, Topology, topology
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class NodeStyle:
    """How the nodes of a feature network are made.

    Attributes:
        filters: width of all maps.
        fusion: how a node adds its inputs, see `layers.fusion.Fusion`.
        activation: name of the activation.
        batch_norm: kind of batch norm.
        separable_conv: separable instead of dense convolutions.
        conv_bn_act: convolution, batch norm, activation instead of the paper's activation,
            convolution, batch norm.
        lateral_batch_norm: a batch norm after each 1x1 convolution of a lateral connection.
        pool_first: pool before the 1x1 convolution where a map is both shrunk and converted.
    """

    filters: int = 64
    fusion: Method = "fast"
    activation: str = "swish"
    batch_norm: Kind = "plain"
    separable_conv: bool = True
    conv_bn_act: bool = False
    lateral_batch_norm: bool = True
    pool_first: bool = False

    def resample(self, name: str) -> Resample:
        norm = self.batch_norm if self.lateral_batch_norm else None
        return Resample(self.filters, norm, self.pool_first, name=name)


@keras.saving.register_keras_serializable(package="tfdet")
class FeatureNetwork(Composite):
    """Maps of a backbone {"P3": ..., "P5": ...} to fused maps {"P3": ..., "P7": ...} of one width.

    Levels that the backbone lacks are made by pooling the coarsest one it has. Then every cell
    fuses all levels.

    Example:
        neck = FeatureNetwork(style=NodeStyle(filters=64), cells=3)
        maps = neck(backbone(images))  # {"P3": [B, H/8, W/8, 64], ..., "P7": ...}

    Paper: https://arxiv.org/abs/1911.09070, section 3.

    Args:
        fpn: a name in `topologies.TOPOLOGIES`, or the nodes of a cell.
        style: how each node is made.
        cells: how often the cell is repeated.
        min_level: finest level.
        max_level: coarsest level.
        gradient_checkpointing: compute each cell again for its gradient.
    """

    def __init__(
        self,
        fpn: str | Topology = "bifpn",
        style: NodeStyle = NodeStyle(),
        cells: int = 3,
        min_level: int = 3,
        max_level: int = 7,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.fpn = fpn
        self.style = style
        self.min_level = min_level
        self.max_level = max_level
        self.gradient_checkpointing = gradient_checkpointing
        nodes = topology(fpn, min_level, max_level)
        self.cells = [FPNCell(nodes, style, name=f"cell_{i}") for i in range(cells)]

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        levels = range(self.min_level, self.max_level + 1)
        given = [level for level in levels if f"P{level}" in input_shape]
        if given != list(range(self.min_level, self.min_level + len(given))) or not given:
            raise ValueError(
                f"the feature network starts at P{self.min_level} and wants the levels that follow "
                f"without a gap; the backbone returns {', '.join(input_shape)}"
            )
        self.coarser = {
            f"P{level}": self.style.resample(f"resample_p{level}") for level in levels[len(given) :]
        }
        super().build(input_shape)

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        names = [f"P{level}" for level in range(self.min_level, self.max_level + 1)]
        maps: list[Any] = []
        for name in names:
            maps.append(
                features[name] if name in features else self._next(name, maps[-1], training)
            )
        for cell in self.cells:

            def run(maps: list[Tensor], cell: FPNCell = cell) -> list[Any]:
                return cell(maps, training=training)

            if self.gradient_checkpointing and training:
                maps = checkpointed(run, maps)
            else:
                maps = run(maps)
        return dict(zip(names, maps, strict=True))

    def _next(self, name: str, x: Tensor, training: bool | None) -> Any:
        size = (-(-x.shape[1] // 2), -(-x.shape[2] // 2))
        return self.coarser[name](x, size=size, training=training)

    def get_config(self) -> dict[str, Any]:
        fpn = self.fpn if isinstance(self.fpn, str) else [records.to_dict(n) for n in self.fpn]
        return {
            **super().get_config(),
            "fpn": fpn,
            "style": records.to_dict(self.style),
            "cells": len(self.cells),
            "min_level": self.min_level,
            "max_level": self.max_level,
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FeatureNetwork":
        fpn, style = config["fpn"], records.from_dict(NodeStyle, config["style"])
        if not isinstance(fpn, str):
            fpn = _nodes(fpn)
        return cls(**{**config, "fpn": fpn, "style": style})


@keras.saving.register_keras_serializable(package="tfdet")
class FPNCell(Composite):
    """One round of fusion: maps [B, H_l, W_l, C_l], finest first, to as many maps of one width.

    Args:
        nodes: the cell's nodes; the last one of a level makes its output.
        style: how each node is made.
    """

    def __init__(self, nodes: Topology, style: NodeStyle, **kwargs: Any):
        super().__init__(**kwargs)
        self.nodes = tuple(nodes)
        self.style = style

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        self.min_level = min(node.level for node in self.nodes)
        self.fnodes = [
            FusionNode(node, self.style, maps=len(input_shape) + i, name=f"fnode{i}")
            for i, node in enumerate(self.nodes)
        ]
        super().build(input_shape)

    def call(self, maps: list[Tensor], training: bool | None = None) -> list[Tensor]:
        sizes = [x.shape[1:3] for x in maps]
        known, outputs = list(maps), list(maps)
        fusions = [fnode.fusion for fnode in self.fnodes if isinstance(fnode.fusion, Fusion)]
        factors = dict(zip(fusions, factors_of(fusions), strict=True))
        for node, fnode in zip(self.nodes, self.fnodes, strict=True):
            level = node.level - self.min_level
            inputs = [known[i] for i in node.inputs]
            outputs[level] = fnode(
                inputs,
                size=sizes[level],
                training=training,
                factors=factors.get(fnode.fusion),
            )
            known.append(outputs[level])
        return outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "nodes": [records.to_dict(node) for node in self.nodes],
            "style": records.to_dict(self.style),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FPNCell":
        style = records.from_dict(NodeStyle, config["style"])
        return cls(**{**config, "nodes": _nodes(config["nodes"]), "style": style})


@keras.saving.register_keras_serializable(package="tfdet")
class FusionNode(keras.layers.Layer):
    """Resamples its inputs to one size, combines them, and convolves the result.

    Args:
        node: what it takes and how it combines.
        style: how it is made.
        maps: how many maps the cell has before this node; the published checkpoints count it in
            the names of the parts.
    """

    def __init__(self, node: FPNNode, style: NodeStyle, maps: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.node = node
        self.style = style
        self.maps = maps
        self.act = activation(style.activation)
        self.resamples = [
            style.resample(f"resample_{i}_{number}_{maps}") for i, number in enumerate(node.inputs)
        ]
        fuses = node.combine == "fuse"
        self.fusion = Fusion(style.fusion, name="fusion") if fuses else GlobalAttention(name="ga")
        self.conv = conv3x3(
            style.filters, style.separable_conv, use_bias=not style.conv_bn_act, name="conv"
        )
        self.bn = batch_norm(style.batch_norm, name="bn")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        for resample, shape in zip(self.resamples, input_shape, strict=True):
            resample.build(shape)
        shape = (None, None, None, self.style.filters)
        self.fusion.build([shape] * len(input_shape))
        self.conv.build(shape)
        self.bn.build(shape)

    def call(
        self,
        inputs: list[Tensor],
        size: tuple[int, int],
        training: bool | None = None,
        factors: list[Tensor] | None = None,
    ) -> Tensor:
        # An attention wants the coarser map first, whatever the order of the numbers.
        sources = [x.shape[1] * x.shape[2] for x in inputs]
        maps = [
            resample(x, size=size, training=training)
            for resample, x in zip(self.resamples, inputs, strict=True)
        ]
        if self.node.combine == "attention" and sources[0] > sources[1]:
            maps[:2] = maps[1::-1]
        x = self.fusion(maps) if factors is None else self.fusion(maps, factors)
        if self.style.conv_bn_act:
            return self.act(self.bn(self.conv(x), training=training))
        return self.bn(self.conv(self.act(x)), training=training)

    def compute_output_spec(
        self,
        inputs: list[Tensor],
        size: tuple[int, int],
        training: bool | None = None,
        factors: list[Tensor] | None = None,
    ) -> Tensor:
        return self.call(inputs, size, training, factors)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "node": records.to_dict(self.node),
            "style": records.to_dict(self.style),
            "maps": self.maps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FusionNode":
        node = records.from_dict(FPNNode, config["node"])
        style = records.from_dict(NodeStyle, config["style"])
        return cls(**{**config, "node": node, "style": style})


@keras.saving.register_keras_serializable(package="tfdet")
class GlobalAttention(keras.layers.Layer):
    """NAS-FPN's global attention: `coarse + fine * sigmoid(max over space of coarse)`.

    Takes a list of maps of one shape [B, H, W, C]: coarse, fine, and any others to be added.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Nothing to make."""

    def call(self, maps: list[Tensor]) -> Tensor:
        coarse, fine, *others = maps
        gate = ops.sigmoid(ops.max(coarse, axis=(1, 2), keepdims=True))  # [B, 1, 1, C]
        return sum(others, start=coarse + fine * gate)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple:
        return tuple(input_shape[0])


def _nodes(data: Any) -> Topology:
    return tuple(records.from_dict(FPNNode, node) for node in data)
