"""A node of CADDet's grid: a block, and paths to the next layer's nodes."""

from typing import Any

import keras
from keras import ops

from tfdet import records
from tfdet.backbones.grid import PATHS, SupernetConfig
from tfdet.layers.batch_norm import Kind, pytorch_batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.folding import normed
from tfdet.layers.separable_unit import SeparableUnit, pointwise
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class GridNode(Composite):
    """{"x": [B, H, W, C], "gates": [B, paths]} to what each path carries, times its gate.

    Returns {"keep": [B, H, W, C], "up": [B, H', W', C'], "down": ...}, as far as the paths exist.
    The call takes `up_size`, the size of the finer map, twice the own size where not given; and
    `wanted`, the paths to compute, all where not given.

    Args:
        config: of the grid.
        scale: of the node.
        paths: the names of its paths.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute the block again for its gradient.
    """

    def __init__(
        self,
        config: SupernetConfig,
        scale: int,
        paths: tuple[str, ...],
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.scale = scale
        self.path_names = tuple(paths)
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing
        last = config.block_units - 1
        self.units = [
            SeparableUnit(
                config.channels[scale],
                relu=i < last,
                inner_norm=config.block_inner_norm,
                batch_norm=batch_norm,
                name=f"unit_{i}",
            )
            for i in range(config.block_units)
        ]
        self.paths = {name: GridPath(config, scale, name, batch_norm, name=name) for name in paths}

    def block(self, x: Tensor, training: bool | None = None) -> Any:
        """What all paths start from, of the shape of `x`; after the ReLU where all have it."""
        y = x
        for unit in self.units:
            y = unit(y, training=training)
        if self.config.block_identity:
            y = x + y
        return y if self.config.keep == "identity" else keras.activations.relu(y)

    def call(
        self,
        inputs: dict[str, Tensor],
        up_size: tuple[int, int] | None = None,
        wanted: tuple[str, ...] | None = None,
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        if self.gradient_checkpointing and training:
            x = checkpointed(lambda x: self.block(x, training=True), inputs["x"])
        else:
            x = self.block(inputs["x"], training)
        sent = {}
        count = len(self.paths)
        gates = ops.unstack(ops.reshape(inputs["gates"], (-1, 1, 1, 1, count)), count, axis=-1)
        for gate, (name, path) in zip(gates, self.paths.items(), strict=True):
            if wanted is not None and name not in wanted:
                continue
            size = {"up_size": up_size} if name == "up" else {}
            sent[name] = path({"x": x, "gate": gate}, **size, training=training)
        return sent

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": records.to_dict(self.config),
            "scale": self.scale,
            "paths": self.path_names,
            "batch_norm": self.batch_norm,
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GridNode":
        return cls(**{**config, "config": records.from_dict(SupernetConfig, config["config"])})


@keras.saving.register_keras_serializable(package="tfdet")
class GridPath(Composite):
    """{"x": [B, H, W, C], "gate": [B, 1, 1, 1]} to what the next node gets: convolution, gate.

    `x` is what `GridNode.block` gives. Where that is not after a ReLU, the ways up and down have
    one of their own.

    Args:
        config: of the grid.
        scale: where the path starts.
        kind: "keep", "up" or "down".
        batch_norm: kind of batch norm.
    """

    def __init__(
        self, config: SupernetConfig, scale: int, kind: str, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.config = config
        self.scale = scale
        self.kind = kind
        self.batch_norm = batch_norm
        self.conv = self.bn = None
        if kind != "keep" or config.keep == "conv":
            filters = config.channels[scale + PATHS[kind]]
            self.conv = pointwise(filters, 2 if kind == "down" else 1, "conv")
            self.bn = pytorch_batch_norm(batch_norm, "bn")

    def call(
        self,
        inputs: dict[str, Tensor],
        up_size: tuple[int, int] | None = None,
        training: bool | None = None,
    ) -> Tensor:
        return self.carry(inputs["x"], inputs["gate"], up_size, training)

    def carry(
        self,
        x: Tensor,
        gate: Tensor,
        up_size: tuple[int, int] | None = None,
        training: bool | None = None,
    ) -> Any:
        """What `call` gives, for a gate of any shape that fits a map's."""
        if self.kind != "keep" and self.config.keep == "identity":
            x = keras.activations.relu(x)
        if self.kind == "up" and up_size is None:
            up_size = (2 * x.shape[1], 2 * x.shape[2])
        if self.kind == "up" and self.config.up == "resize_conv":
            x = resize_bilinear(x, up_size)
        if self.conv is not None:
            x = keras.activations.relu(normed(self.conv, self.bn, x, training))
        x = x * ops.cast(gate, x.dtype)
        if self.kind == "up" and self.config.up == "conv_resize":
            x = resize_bilinear(x, up_size)
        return x

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": records.to_dict(self.config),
            "scale": self.scale,
            "kind": self.kind,
            "batch_norm": self.batch_norm,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GridPath":
        return cls(**{**config, "config": records.from_dict(SupernetConfig, config["config"])})


def resize_bilinear(x: Tensor, size: tuple[int, int]) -> Any:
    """A map [B, H, W, C] in the size of the next finer one, by bilinear interpolation."""
    # To the finer map's own size: a side of 25 has 13 cells at the next scale, not 12.5.
    return ops.image.resize(x, size, interpolation="bilinear")
