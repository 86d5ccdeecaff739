"""Fixtures of data sets with planted objects and detections."""

from collections.abc import Callable

import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, coco, findings


@pytest.fixture(scope="session")
def evaluated() -> Callable:
    """`planted.evaluated`."""
    return planted.evaluated


@pytest.fixture(scope="session")
def analysed() -> Callable:
    """The `Analysis` of planted objects and detections, see `planted.evaluated`."""
    return lambda *args, **kwargs: analysis.analyse(findings.of(planted.evaluated(*args, **kwargs)))


@pytest.fixture(scope="session")
def lively() -> coco.CocoEvaluator:
    """`planted.lively`."""
    return planted.lively()
