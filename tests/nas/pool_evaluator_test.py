"""Subnets as candidates: what is drawn and measured, and what a recipe may not say."""

import dataclasses

import numpy as np
import pytest

from tests.nas import small_search
from tfdet import profiling
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.nas import search_report
from tfdet.nas.evaluator import Job, score_of
from tfdet.nas.pool_evaluator import PoolEvaluator
from tfdet.nas.search_recipe import make_search_recipe
from tfdet.nas.weights import take_weights
from tfdet.nas.workers import make_evaluator

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def pool_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    return small_search.write_detector(folder, small_search.SUPER, elastic=small_search.ELASTIC)


def recipe(folder, hparams=""):
    return make_search_recipe(
        [small_search.POOL_HPARAMS, *([hparams] if hparams else [])], {"base": str(folder)}
    )


@pytest.fixture(scope="module")
def evaluator(pool_dir):
    return make_evaluator(recipe(pool_dir))


@pytest.fixture(scope="module")
def base(evaluator):
    return evaluator.look_at(Job(0, 0)).candidate


def drawn(evaluator, base, parent, numbers=range(1, 9), seen=()):
    return [evaluator._next(Job(i, 1, parent, base, seen=seen), parent) for i in numbers]


def test_the_base_is_the_largest_subnet(evaluator, base):
    space = evaluator.pool.space
    assert isinstance(evaluator, PoolEvaluator)
    assert base.subnet == space.largest and base.score == 1 and base.metrics["AP"] > 0
    assert base.lineage == (0,) and base.steps == 0


def test_children_of_the_base_are_any_subnets_and_others_change_in_one_place(evaluator, base):
    space = evaluator.pool.space
    anywhere = drawn(evaluator, base, base)
    assert len(set(anywhere)) > 4 and all(subnet in space for subnet in anywhere)
    parent = dataclasses.replace(base, number=5, subnet=space.smallest)
    for subnet in drawn(evaluator, base, parent):
        ours, theirs = ((*x.depths, *x.widths, x.image_size) for x in (subnet, space.smallest))
        assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 1
    # What a job draws follows from its number alone.
    assert drawn(evaluator, base, parent) == drawn(evaluator, base, parent)


def test_subnets_of_earlier_generations_are_not_drawn_again(evaluator, base):
    space = evaluator.pool.space
    parent = dataclasses.replace(base, number=5, subnet=space.smallest)
    seen = tuple(set(drawn(evaluator, base, parent, range(60))))
    assert len(seen) == 9  # four depths, four widths, a size
    assert not set(drawn(evaluator, base, parent, seen=seen)) & set(seen)
    # Where all have been seen, one comes again.
    assert drawn(evaluator, base, parent, [1], tuple(space.subnets()))[0] in space


def test_a_subnet_is_measured_with_inherited_weights(evaluator, base):
    parent = dataclasses.replace(base, number=5, subnet=evaluator.pool.space.smallest)
    row, weights = evaluator.look_at(Job(7, 2, parent, base))
    detector = evaluator.pool.ready(row.subnet)
    for name, value in take_weights(detector).items():
        np.testing.assert_array_equal(weights[name], value)
    found = coco.evaluate(detector, evaluator._val_data, 4)
    assert row.metrics == found and row.losses == {}
    cost = profiling.profile(detector)
    assert (row.macs, row.mmdet_flops) == (cost.macs, cost.mmdet_flops)
    assert row.score == score_of(row, base, evaluator.recipe.score)
    assert row.lineage == (0, 7) and row.net == detector.config.backbone


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("search.steps=3", r"search\.steps is not for search\.space=pool"),
        ("search.inherit=false", r"search\.inherit=false is not for"),
        ("search.sizes=[[64,64]]", r"search\.sizes is not for"),
        ("teacher=runs/a", r"teacher is not for .* nobody trains them"),
        ("search.space=pols", r"search\.space must be one of"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(pool_dir, hparams, message):
    with pytest.raises(UserError, match=message):
        recipe(pool_dir, hparams)


def test_a_base_that_is_no_super_network_is_refused(tmp_path):
    folder = small_search.write_detector(tmp_path, small_search.BASE)
    with pytest.raises(UserError, match="holds no super-network"):
        make_evaluator(recipe(folder))


def test_reports_name_subnets(evaluator, base):
    row = dataclasses.replace(base, number=1, lineage=(0, 1), score=1.5)
    text = search_report.page([base, row], evaluator.recipe)
    assert "| 1 | 0 | 2-2-2-2 x 1.5-1.5-1.5-1.5 |" in text
