"""CADDet's backbone, a grid of nodes whose routers build a network for each image.

Paper: https://arxiv.org/abs/2012.04265. The grid and its routers are those of Dynamic Routing for
semantic segmentation (CVPR 2020), on scales 1/8 to 1/64.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet import records
from tfdet.backbones.grid import CLOSED, FIRST_LEVEL, PATHS, NodeSpec, SupernetConfig
from tfdet.backbones.grid_node import GridNode
from tfdet.layers.batch_norm import Kind, pytorch_batch_norm
from tfdet.layers.composite import Composite
from tfdet.layers.gate_router import GateRouter
from tfdet.layers.separable_unit import SeparableUnit
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class Supernet(Composite):
    """Images [B, H, W, 3], normalised, to maps {"P3": [B, H/8, W/8, C], ...} and their route.

    The map of scale s is the sum of what the last layer's node there sends. Beside the maps the
    result has "gates", float32 [B, gates]: in the order of `SupernetConfig.nodes` the factor of
    each path. A gate below `grid.CLOSED` is closed. A node with none that is open is closed: it
    hands its input on, as it is, to the node of its scale. What nobody sent anything to is absent:
    a map of zeros, and its node's gates are 0 whatever the router says.

    All nodes are computed for all images. In inference gates below the threshold are 0.

    Example:
        maps = Supernet(SupernetConfig())(images)  # {"P3": ..., ..., "P6": ..., "gates": ...}

    Args:
        config: see `SupernetConfig`.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute each block again for its gradient.
    """

    def __init__(
        self,
        config: SupernetConfig,
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing
        self.stem = [self._stem_unit(i) for i in range(len(config.stem_filters))]
        self.nodes, self.routers = [], []
        for spec in config.nodes:
            place = f"{spec.layer}_{spec.scale}"
            self.nodes.append(
                GridNode(
                    config,
                    spec.scale,
                    spec.paths,
                    batch_norm,
                    gradient_checkpointing,
                    name=f"node_{place}",
                )
            )
            if config.routers:
                self.routers.append(self._router(spec, f"router_{place}"))

    def _stem_unit(self, i: int) -> keras.layers.Layer:
        filters, full = self.config.stem_filters[i], i == 0 and self.config.stem_starts_full
        unit = FullUnit if full else SeparableUnit
        return unit(filters, strides=2, batch_norm=self.batch_norm, name=f"stem_{i}")

    def _router(self, spec: NodeSpec, name: str) -> GateRouter:
        config = self.config
        return GateRouter(
            len(spec.paths),
            config.router_reduction,
            config.gate,
            config.gate_bias,
            self.batch_norm,
            name=name,
        )

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the maps, finest first."""
        return tuple(f"P{FIRST_LEVEL + s}" for s in range(len(self.config.channels)))

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels."""
        return dict(zip(self.levels, self.config.channels, strict=True))

    def stem_map(self, images: Tensor, training: bool | None = None) -> Tensor:
        """Images to the input of the grid, [B, H/8, W/8, C]."""
        for unit in self.stem:
            images = unit(images, training=training)
        return images

    def call(
        self, images: Tensor, training: bool | None = None, threshold: Tensor = CLOSED
    ) -> dict[str, Tensor]:
        maps, gates = self._run(images, training, threshold)
        return {**maps, "gates": ops.concatenate(gates, axis=1)}

    def along(self, images: Tensor, route: np.ndarray) -> dict[str, Tensor]:
        """The maps {"P3": ...} of one route [gates] bool, without routers; only what is open runs.

        Open gates are 1. This is what the cost of a route is counted from.
        """
        return self._run(images, route=route)[0]

    def _run(
        self,
        images: Tensor,
        training: bool | None = None,
        threshold: Tensor = CLOSED,
        route: np.ndarray | None = None,
    ) -> tuple[dict[str, Any], list[Any]]:
        """The maps, and the gates of the nodes that were computed: all where no route is given."""
        x = self.stem_map(images, training)
        sizes = self.config.map_sizes(images.shape[1:3])
        everyone = ops.ones_like(x[:, 0, 0, 0], dtype="bool")
        arriving = {0: [(x, everyone)]}  # by scale: maps, and the images that have them
        gates = []
        for number, spec in enumerate(self.config.nodes):
            if spec.scale == 0:
                arrived, arriving = arriving, {}
            if route is not None and spec.scale not in arrived:
                continue
            h, is_here = _summed(arrived.get(spec.scale) or [self.absent(x, spec.scale, sizes)])
            if route is None:
                g, paths = self.gates_of(number, h, is_here, training, threshold), spec.paths
            else:
                g, paths = _fixed_gates(h, route[spec.gates]), spec.opened(route)
            gates.append(g)
            for path, sent in self._sent(number, h, g, is_here, paths, sizes, training).items():
                arriving.setdefault(spec.scale + PATHS[path], []).append(sent)
        arrived = [
            arriving.get(scale) or [self.absent(x, scale, sizes)] for scale in range(len(sizes))
        ]
        maps = {name: _summed(sent)[0] for name, sent in zip(self.levels, arrived, strict=True)}
        return maps, gates

    def absent(self, x: Tensor, scale: int, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """A map of zeros for a scale, and that no image has it; `x` [B, ...] has the batch."""
        zero = ops.zeros_like(x[:, :1, :1, :1])
        empty = np.zeros((1, *sizes[scale], self.config.channels[scale]), np.float32)
        return zero + ops.cast(empty, x.dtype), ops.zeros_like(x[:, 0, 0, 0], dtype="bool")

    def gates_of(
        self, number: int, h: Tensor, is_here: Tensor, training: bool | None, threshold: Tensor
    ) -> Tensor:
        """[B, paths] float32: the factors of the paths of a node, given its input."""
        if not self.config.routers:
            return _fixed_gates(h, np.ones(len(self.config.nodes[number].paths)))
        g = self.routers[number](h, training=training)
        is_open = ops.expand_dims(is_here, 1)
        if not training:
            is_open = ops.logical_and(is_open, g >= threshold)
            if self.config.hard_gates:
                g = ops.ones_like(g)
        return g * ops.cast(is_open, g.dtype)

    def _sent(
        self,
        number: int,
        h: Tensor,
        g: Tensor,
        is_here: Tensor,
        paths: tuple[str, ...],
        sizes: tuple[tuple[int, int], ...],
        training: bool | None,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """By path what a node sends, and the images for which it sends something."""
        spec, sent, is_open = self.config.nodes[number], {}, g >= CLOSED
        opened = dict(zip(spec.paths, ops.unstack(is_open, len(spec.paths), axis=1), strict=True))
        if paths:
            size = {"up_size": sizes[spec.scale - 1]} if "up" in paths else {}
            inputs = {"x": h, "gates": g}
            maps = self.nodes[number](inputs, **size, wanted=paths, training=training)
            sent = {path: (x, opened[path]) for path, x in maps.items()}
        if self.config.bypass and ("keep" in paths or not paths):
            is_closed = ops.logical_not(ops.any(is_open, axis=1))
            bypass = ops.cast(ops.reshape(is_closed, (-1, 1, 1, 1)), h.dtype) * h
            passed = bypass, ops.logical_and(is_closed, is_here)
            sent["keep"] = _summed([sent["keep"], passed]) if paths else passed
        return sent

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": records.to_dict(self.config),
            "batch_norm": self.batch_norm,
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Supernet":
        return cls(**{**config, "config": records.from_dict(SupernetConfig, config["config"])})


@keras.saving.register_keras_serializable(package="tfdet")
class FullUnit(Composite):
    """3x3 convolution without bias, batch norm, ReLU; as `SeparableUnit` otherwise.

    Args:
        filters: output channels.
        strides: of the convolution.
        batch_norm: kind of batch norm.
    """

    def __init__(self, filters: int, strides: int, batch_norm: Kind, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.batch_norm = batch_norm
        self.conv = SymmetricConv2D(
            filters,
            3,
            strides=strides,
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv",
        )
        self.bn = pytorch_batch_norm(batch_norm, "bn")

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        return keras.activations.relu(self.bn(self.conv(x), training=training))

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "strides", "batch_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _summed(arrived: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of maps, and the images for which there is any."""
    (x, is_here), *rest = arrived
    for y, is_there in rest:
        x, is_here = x + y, ops.logical_or(is_here, is_there)
    return x, is_here


def _fixed_gates(h: Tensor, is_open: np.ndarray) -> Any:
    """[B, paths] float32: 1 where open, for all images of a map."""
    return ops.ones_like(h[:, 0, 0, :1], dtype="float32") * is_open.astype(np.float32)
