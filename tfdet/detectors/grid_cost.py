"""What a route through CADDet's grid costs: https://arxiv.org/abs/2012.04265, equations 1 and 2.

Multiply-adds of convolutions, from formulas of shapes at one reference size, without batch norms,
enlargements and routers.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from tfdet.backbones.grid import CLOSED, PATHS, NodeSpec, SupernetConfig
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class GridCost:
    """Multiply-adds of the parts of a grid for one image.

    Attributes:
        nodes: [nodes] int64, of each node's block.
        paths: [gates] int64, of each path.
        owners: [gates] int32, the node of each path.
    """

    nodes: np.ndarray
    paths: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, config: SupernetConfig, image_size: tuple[int, int]) -> "GridCost":
        """The costs for images of one size (height, width)."""
        sizes = config.map_sizes(image_size)
        nodes = [_block(config, spec, sizes) for spec in config.nodes]
        paths = [_path(config, spec, path, sizes) for spec in config.nodes for path in spec.paths]
        owners = np.repeat(np.arange(len(nodes)), [len(spec.paths) for spec in config.nodes])
        return cls(np.array(nodes), np.array(paths), owners.astype(np.int32))

    @property
    def total(self) -> int:
        """The cost of the whole grid."""
        return int(self.nodes.sum() + self.paths.sum())

    def soft(self, gates: Tensor) -> Any:
        """[B] float32, in parts of `total`: a path counts as much as its gate [B, gates] says.

        The block of a node counts as its largest gate does, which alone gets that gradient.
        """
        nodes, paths = self._shares()
        gates = ops.cast(gates, "float32")
        largest = ops.max(self._by_node(gates), axis=-1)
        return ops.sum(largest * nodes, axis=-1) + ops.sum(gates * paths, axis=-1)

    def hard(self, gates: Tensor, threshold: Tensor = CLOSED) -> Any:
        """[B] float32, in parts of `total`: a path counts in full where its gate is open."""
        return self.soft(ops.cast(gates >= threshold, "float32"))

    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        nodes, paths = ((x / self.total).astype(np.float32) for x in (self.nodes, self.paths))
        return nodes, paths

    def _by_node(self, gates: Tensor) -> Any:
        """Gates [B, gates] as [B, nodes, 3]; a node with fewer has its last one again."""
        first = np.searchsorted(self.owners, np.arange(len(self.nodes)))
        count = np.bincount(self.owners)
        places = first[:, None] + np.minimum(np.arange(len(PATHS)), count[:, None] - 1)
        return ops.take(gates, places.astype(np.int32), axis=1)


def _block(config: SupernetConfig, spec: NodeSpec, sizes: Tensor) -> int:
    height, width = sizes[spec.scale]
    channels = config.channels[spec.scale]
    return config.block_units * height * width * (9 * channels + channels**2)


def _path(config: SupernetConfig, spec: NodeSpec, path: str, sizes: Tensor) -> int:
    if path == "keep" and config.keep != "conv":
        return 0
    target = spec.scale + PATHS[path]
    # The convolution's output: that of the way up comes before the enlargement, or after it.
    at = spec.scale if path == "up" and config.up == "conv_resize" else target
    height, width = sizes[at]
    return height * width * config.channels[spec.scale] * config.channels[target]
