"""CADDet's grid as the numbers of its inference: convolutions that hold their batch norms."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfdet.backbones.grid import NodeSpec, SupernetConfig
from tfdet.backbones.grid_node import GridNode, enlarge
from tfdet.backbones.supernet import Supernet
from tfdet.layers.folding import Folded, folded
from tfdet.layers.gate_router import GateRouter
from tfdet.layers.separable_unit import SeparableUnit


class FoldedUnit(NamedTuple):
    """A `SeparableUnit` of stride 1."""

    depthwise: Folded
    pointwise: Folded
    inner_norm: bool

    @classmethod
    def of(cls, unit: SeparableUnit) -> "FoldedUnit":
        depthwise = folded(unit.depthwise, unit.depthwise_bn)
        return cls(depthwise, folded(unit.pointwise, unit.bn), unit.inner_norm)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The unit without a ReLU at its end, [B, H, W, C] to the same."""
        x = self.depthwise.depthwise(x)
        return self.pointwise.pointwise(tf.nn.relu(x) if self.inner_norm else x)


class FoldedRouter(NamedTuple):
    """A `GateRouter` from the quarters on."""

    layer: GateRouter
    hidden: Folded
    score: Folded

    @classmethod
    def of(cls, router: GateRouter) -> "FoldedRouter":
        return cls(router, folded(router.hidden, router.bn), folded(router.score))

    def __call__(self, quarters: tf.Tensor) -> tf.Tensor:
        """Gates [1, paths] of one image's quarters [1, 2, 2, C]."""
        hidden = tf.nn.relu(self.hidden.rows(tf.reshape(quarters, [4, quarters.shape[-1]])))
        return self.layer.gates_of(self.score.rows(tf.reduce_mean(hidden, axis=0, keepdims=True)))


class FoldedNode(NamedTuple):
    """A node of the grid with its router.

    Attributes:
        spec, config: of the node, and of the grid.
        units: of the block.
        paths: the convolution of each path by its name; None for a path without.
        router: None has all gates 1.
    """

    spec: NodeSpec
    config: SupernetConfig
    units: tuple[FoldedUnit, ...]
    paths: dict[str, Folded | None]
    router: FoldedRouter | None

    @classmethod
    def of(cls, spec: NodeSpec, node: GridNode, router: GateRouter | None) -> "FoldedNode":
        return cls(
            spec,
            node.config,
            tuple(map(FoldedUnit.of, node.units)),
            {name: p.conv and folded(p.conv, p.bn) for name, p in node.paths.items()},
            router and FoldedRouter.of(router),
        )

    def gates(self, quarters: tf.Tensor) -> tf.Tensor:
        """[1, paths] float32, given the quarters of the node's input."""
        return self.router(quarters) if self.router else tf.ones([1, len(self.spec.paths)])

    def block(self, x: tf.Tensor) -> tf.Tensor:
        """What the paths start from, of the shape of `x`: after the ReLU where all have it."""
        y = x
        *first, last = self.units
        for unit in first:
            y = tf.nn.relu(unit(y))
        y = last(y)
        if self.config.block_identity:
            y += x
        return y if self.config.keep == "identity" else tf.nn.relu(y)

    def carry(self, path: str, y: tf.Tensor, gate: Any, size: Any = None) -> tf.Tensor:
        """What a path makes of the block's output, times its gate; `size` is that of its map."""
        if path != "keep" and self.config.keep == "identity":
            y = tf.nn.relu(y)
        is_first = self.config.up == "resize_conv"
        if path == "up" and is_first:
            y = enlarge(y, size)
        conv = self.paths[path]
        if conv is not None:
            y = tf.nn.relu(conv.pointwise(y, 2 if path == "down" else 1))
        y *= tf.cast(gate, y.dtype)
        return enlarge(y, size) if path == "up" and not is_first else y


class FoldedGrid(NamedTuple):
    """All nodes in the order of computation; numbers within `conditional.constant_branches`."""

    config: SupernetConfig
    levels: tuple[str, ...]
    nodes: tuple[FoldedNode, ...]

    @classmethod
    def of(cls, net: Supernet) -> "FoldedGrid":
        routers = net.routers or [None] * len(net.nodes)
        nodes = map(FoldedNode.of, net.config.nodes, net.nodes, routers)
        return cls(net.config, net.levels, tuple(nodes))
