"""What a recipe adds to a detector while it is trained: a teacher, a penalty, subnets."""

from typing import Any

from tfdet.config import TrainConfig
from tfdet.detectors.base import Detector
from tfdet.nas import distill, elastic
from tfdet.training.sparsity import SparseGammas


def with_additions(model: Detector, settings: TrainConfig, teacher: Any = None) -> Detector:
    """The model in the wrappers that `settings` asks for; itself where it asks for none.

    Args:
        model: built.
        settings: its keys `distill`, `gamma_l1` and `elastic`.
        teacher: of `settings.distill`; None takes the folder that is named there, if one is.
    """
    wrapped = model
    if settings.elastic and settings.elastic.sort:
        elastic.sort_channels(model, settings.elastic.sort)
    if teacher is None and settings.distill.teacher:
        teacher = distill.load_teacher(settings.distill.teacher)
    if teacher is not None:
        wrapped = distill.Distilled(model, teacher, settings.distill)
    if settings.gamma_l1:
        wrapped = SparseGammas(wrapped, settings.gamma_l1)
    if settings.elastic:
        wrapped = elastic.Elastic(wrapped, settings.elastic, settings.seed)
    return wrapped
