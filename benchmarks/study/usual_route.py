"""A CADDet that takes one route for all images, with the weights of one that chooses.

What it finds less than with routes of its own is what the images' own routes are worth.
"""

import numpy as np

from tfdet.backbones.grid import CLOSED
from tfdet.detectors.caddet import CADDet

# What gates are made of, by their function.
_SCORES = {"tanh": np.arctanh, "sigmoid": lambda gates: np.log(gates / (1 - gates))}
_LEAST = CLOSED / 100


def usual(gates: np.ndarray) -> np.ndarray:
    """The usual route: [gates], 0 where most of the routes [N, gates] are closed.

    Elsewhere the mean over the routes that are open there.
    """
    is_open = gates >= CLOSED
    count = is_open.sum(axis=0)
    mean = (gates * is_open).sum(axis=0) / np.maximum(count, 1)
    return np.where(2 * count >= len(gates), mean, 0.0)


def take(model: CADDet, route: np.ndarray) -> None:
    """Has the routers of a model say a route [gates] for every image."""
    config = model.config.supernet
    scores = _SCORES[config.gate](np.clip(route, _LEAST, 1 - _LEAST))
    for node, router in zip(config.nodes, model.backbone.routers, strict=True):
        router.score.kernel.assign(np.zeros(router.score.kernel.shape))
        router.score.bias.assign(scores[node.gates])
