"""The shape of CADDet's grid of nodes: which there are, and where their paths lead."""

import dataclasses
import functools
from typing import Literal, NamedTuple

import numpy as np

from tfdet.errors import UserError
from tfdet.layers.gate_router import GateFunction

# Paths of a node in the order of its gates, and what they do to the number of the scale.
PATHS = {"keep": 0, "up": -1, "down": 1}

# The finest scale is the level P3.
FIRST_LEVEL = 3

# A gate below this is closed (CADDet, section 3.2).
CLOSED = 1e-4


class NodeSpec(NamedTuple):
    """One node of the grid.

    Attributes:
        layer, scale: its place; scale 0 is the finest.
        paths: the names of its paths, in the order of its gates.
        first_gate: number of its first gate among all of the grid.
    """

    layer: int
    scale: int
    paths: tuple[str, ...]
    first_gate: int

    @property
    def gates(self) -> slice:
        """Its gates among all of the grid."""
        return slice(self.first_gate, self.first_gate + len(self.paths))

    def opened(self, route: np.ndarray) -> tuple[str, ...]:
        """The names of its paths that are open on a route [gates]."""
        is_open = route[self.gates]
        return tuple(path for path, is_one in zip(self.paths, is_open, strict=True) if is_one)


@dataclasses.dataclass(frozen=True)
class SupernetConfig:
    """The supernet; the defaults are CADDet's, and Dynamic Routing's (DR) where that is silent.

    Attributes:
        layers: of nodes, after the initial node where there is one.
        opening: how scales open: "triangle": after an initial node each of the first layers opens
            one more (DR); "initial": after it all layers have all scales; "full": the same without
            an initial node. Coarse nodes of the first layers that nothing is sent to stay closed.
        last_layer: the paths of its nodes: "keep" (DR), or "all".
        channels: of each scale; the finest is P3.
        stem_filters: of the three convolutions with stride 2; the last is the finest scale's.
        stem_starts_full: the first of them is a full 3x3 convolution (DR) instead of a separable.
        block_units: separable convolutions in a node's block.
        block_identity: the block's input is added to its output (DR).
        block_inner_norm: batch norm and ReLU also between a unit's two convolutions.
        keep: what the path of equal scale does: nothing, "relu" (DR) or a 1x1 convolution.
        up: the order of convolution and enlargement on the way to the finer scale.
        bypass: a closed node hands its input on to the same scale (DR).
        routers: False has no routers, and all gates 1.
        gate, gate_bias, router_reduction: see `layers.gate_router.GateRouter`.
        hard_gates: in inference an open gate counts as 1 instead of as its value.
    """

    layers: int = 16
    opening: Literal["triangle", "initial", "full"] = "triangle"
    last_layer: Literal["keep", "all"] = "keep"
    channels: tuple[int, ...] = (64, 128, 256, 512)
    stem_filters: tuple[int, ...] = (64, 64, 64)
    stem_starts_full: bool = False
    block_units: int = 2
    block_identity: bool = True
    block_inner_norm: bool = False
    keep: Literal["identity", "relu", "conv"] = "relu"
    up: Literal["conv_resize", "resize_conv"] = "conv_resize"
    bypass: bool = True
    routers: bool = True
    gate: GateFunction = "tanh"
    gate_bias: float = 1.5
    router_reduction: int = 2
    hard_gates: bool = False

    def __post_init__(self) -> None:
        if not 2 <= len(self.channels) <= 5:
            raise UserError(f"supernet.channels must be of 2 to 5 scales, got {self.channels}")
        if min(*self.channels, *self.stem_filters) < 1:
            raise UserError("supernet.channels and stem_filters must be at least 1")
        if len(self.stem_filters) != FIRST_LEVEL:
            raise UserError(
                f"supernet.stem_filters must be {FIRST_LEVEL} numbers, one for each halving, got "
                f"{self.stem_filters}"
            )
        if self.stem_filters[-1] != self.channels[0]:
            raise UserError(
                f"the last of supernet.stem_filters is {self.stem_filters[-1]}, but the finest "
                f"scale has {self.channels[0]} channels; they must be equal"
            )
        missing = len(self.channels) - 1 - self.last
        if missing > 0:
            raise UserError(
                f"supernet.layers={self.layers} cannot open {len(self.channels)} scales; "
                f"expected at least {self.layers + missing}"
            )
        for name in ("block_units", "router_reduction"):
            if getattr(self, name) < 1:
                raise UserError(f"supernet.{name} must be at least 1, got {getattr(self, name)}")

    @functools.cached_property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """All nodes in the order of computation."""
        nodes, gates = [], 0
        for layer in range(self.last + 1):
            for scale in range(self._width(layer)):
                paths = tuple(p for p in PATHS if self._has_path(layer, scale, p))
                nodes.append(NodeSpec(layer, scale, paths, gates))
                gates += len(paths)
        return tuple(nodes)

    @property
    def last(self) -> int:
        """Number of the last layer; the initial node is layer 0."""
        return self.layers - 1 if self.opening == "full" else self.layers

    def _width(self, layer: int) -> int:
        """How many scales have a node in a layer."""
        if self.opening == "triangle":
            return min(layer + 1, len(self.channels))
        return 1 if self.opening == "initial" and layer == 0 else len(self.channels)

    def _has_path(self, layer: int, scale: int, path: str) -> bool:
        if layer == self.last and self.last_layer == "keep":
            return path == "keep"
        return 0 <= scale + PATHS[path] < len(self.channels)

    @property
    def num_gates(self) -> int:
        return self.nodes[-1].gates.stop

    def map_sizes(self, image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(height, width) of each scale; halves are rounded up."""
        halvings = range(FIRST_LEVEL, FIRST_LEVEL + len(self.channels))
        height, width = image_size
        return tuple((-(-height // 2**n), -(-width // 2**n)) for n in halvings)

    def gate_numbers(self, layer: int, scale: int, *paths: str) -> list[int]:
        """Numbers of the gates of some paths of a node."""
        node = next(n for n in self.nodes if (n.layer, n.scale) == (layer, scale))
        return [node.first_gate + node.paths.index(path) for path in paths]

    def route(self, kind: Literal["floor", "cheapest", "all_open"]) -> np.ndarray:
        """[gates] bool: the gates that are open on a route that has a name.

        "floor" has none; "cheapest" is the cheapest that feeds all scales: the first node of each
        scale opens the way down, and all others are closed.
        """
        route = np.full(self.num_gates, kind == "all_open")
        if kind == "cheapest":
            for scale in range(len(self.channels) - 1):
                route[self.gate_numbers(scale, scale, "keep", "down")] = True
        return route
