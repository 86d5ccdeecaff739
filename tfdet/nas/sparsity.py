"""Sparse batch norms: the fewer channels matter, the less it costs to prune the others."""

from typing import Any

import keras
from keras import ops

from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.training.wrapper import TrainingWrapper


class SparseGammas(TrainingWrapper):
    """Adds "gamma_loss": the sum of |gamma| over all trained batch norms, times a weight.

    Args:
        inner: a detector with batch norms that are trained.
        weight: Joint-DetNAS and network slimming have 1e-5.
    """

    def __init__(self, inner: Detector, weight: float):
        super().__init__(inner, ("gamma_loss",), "sparse_gammas")
        self.weight = weight
        if not self._gammas():
            raise UserError(
                f"train.gamma_l1 has nothing to make sparse: {self.detector.name} trains no batch "
                "norm; set model.batch_norm to plain or synchronized, and frozen_stages to 0"
            )

    def _gammas(self) -> list[keras.Variable]:
        return [
            layer.gamma
            for layer in self.detector._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
            and layer.gamma is not None
            and layer.gamma.trainable
        ]

    def loss_terms(
        self, targets: dict[str, Any], raw: dict[str, Any], training: bool = False
    ) -> dict[str, Any]:
        norms = (ops.sum(ops.abs(ops.cast(gamma, "float32"))) for gamma in self._gammas())
        return {
            **super().loss_terms(targets, raw, training),
            "gamma_loss": replicas.total_to_share(self.weight * sum(norms)),
        }
