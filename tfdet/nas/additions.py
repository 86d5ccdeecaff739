"""What Joint-DetNAS adds to training: a teacher, sparse batch norms, and a super-network's subnets.

They are wrapped around a detector in this order, the teacher first.
"""

import math

from tfdet.additions import Addition, Batches, register
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.losses.distillation import DistillConfig
from tfdet.nas.subnets import ElasticConfig


def _with_teacher(detector: Detector, config: DistillConfig, seed: int) -> Detector:
    if not config.teacher:
        return detector
    from tfdet.nas import distill

    return distill.Distilled(detector, distill.load_teacher(config.teacher), config)


def _sparse(detector: Detector, weight: float, seed: int) -> Detector:
    if not weight:
        return detector
    from tfdet.nas.sparsity import SparseGammas

    return SparseGammas(detector, weight)


def _check_weight(weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise UserError(f"train.gamma_l1 must be at least 0, got {weight}")


def _elastic(detector: Detector, config: ElasticConfig | None, seed: int) -> Detector:
    if config is None:
        return detector
    from tfdet.nas.elastic import Elastic

    return Elastic(detector, config, seed)


def _recompute_statistics(
    detector: Detector, config: ElasticConfig | None, batches: Batches
) -> None:
    """The whole super-network's own statistics: those that moved are of all its subnets."""
    if config is not None:
        from tfdet.nas import batch_statistics

        batch_statistics.recompute(detector, batches(config.recalibration_images))


def _teacher_clause(config: DistillConfig) -> str:
    return f"with the teacher {config.teacher}" if config.teacher else ""


register(
    Addition("distill", DistillConfig, DistillConfig(), _with_teacher, describe=_teacher_clause)
)
register(Addition("gamma_l1", float, 0.0, _sparse, check=_check_weight))
register(
    Addition(
        "elastic", ElasticConfig | None, None, _elastic, before_measuring=_recompute_statistics
    )
)
