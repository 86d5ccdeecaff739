"""Candidates with real networks: what they inherit, learn, and that equal jobs are equal."""

import concurrent.futures
import dataclasses
import multiprocessing

import numpy as np
import pytest

from tests.nas import small_search
from tfdet import profiling
from tfdet.errors import UserError
from tfdet.nas.evaluator import Evaluator, Job
from tfdet.nas.morphism import Action
from tfdet.nas.weights import put_weights, take_weights


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    for name in ("base", "larger", "smaller"):
        small_search.write_detector(root / name, getattr(small_search, name.upper()))
    small_search.write_detector(root / "pool", small_search.SUPER, elastic=small_search.ELASTIC)
    return root


@pytest.fixture(scope="module")
def taught(folders):
    """An evaluator with one teacher, and the base as it measured it."""
    evaluator = Evaluator(small_search.recipe(folders / "base", folders / "larger"))
    return evaluator, evaluator.look_at(Job(0, 0))


def child_of(base, number, generation=1):
    return Job(number, generation, base.candidate, base.candidate, base.weights)


def test_the_base_is_measured_as_it_is(taught):
    evaluator, (row, weights) = taught
    counts = profiling.profile(evaluator.base)
    assert (row.macs, row.mmdet_flops, row.parameters) == (
        counts.macs,
        counts.mmdet_flops,
        counts.parameters,
    )
    assert row.net == small_search.BASE
    assert (row.number, row.lineage, row.score, row.teacher) == (0, (0,), 1.0, "")
    put_weights(evaluator.base, weights)
    assert row.ap > 0


def look_three_times(base, teacher):
    """What equal jobs gave: to one evaluator, to it after another job, and to a new one."""
    recipe = small_search.recipe(base, teacher, "train.deterministic=true")
    evaluator = Evaluator(recipe)
    base = evaluator.look_at(Job(0, 0))
    first = evaluator.look_at(child_of(base, 2))
    evaluator.look_at(child_of(base, 3))
    seen = (
        first,
        evaluator.look_at(child_of(base, 2)),
        Evaluator(recipe).look_at(child_of(base, 2)),
    )
    return [(dataclasses.replace(row, seconds=0.0), weights) for row, weights in seen]


@pytest.mark.slow
def test_equal_jobs_have_equal_outcomes_whatever_came_before(folders):
    # A process of its own, since TensorFlow's determinism cannot be switched off again.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        looked = pool.submit(look_three_times, folders / "base", folders / "larger").result()
    (row, weights), *others = looked
    for other_row, other_weights in others:
        assert other_row == row
        assert other_weights.keys() == weights.keys()
        for name, value in other_weights.items():
            np.testing.assert_array_equal(value, weights[name], err_msg=name)


@pytest.mark.slow
def test_the_first_candidates_keep_the_architecture_and_learn(taught):
    evaluator, base = taught
    row, weights = evaluator.look_at(child_of(base, 1))
    assert row.action is None and row.encoding == base.candidate.encoding
    assert row.teacher == "larger" and row.lineage == (0, 1) and row.steps == 2
    assert {"distill_feature_loss", "distill_class_loss", "gamma_loss"} <= set(row.losses)
    moved = [
        name for name, value in weights.items() if not np.array_equal(value, base.weights[name])
    ]
    assert any(name.startswith("backbone") for name in moved)
    assert not any("adapter" in name for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("inherit", [True, False])
def test_later_ones_change_and_inherit(folders, inherit):
    hparams = f"search.inherit={str(inherit).lower()},search.distil=false,train.learning_rate=0"
    hparams += ",train.warmup_init=0,morphism.kinds=[add_layer]"
    evaluator = Evaluator(small_search.recipe(folders / "base", hparams=hparams))
    base = evaluator.look_at(Job(0, 0))
    row, weights = evaluator.look_at(child_of(base, 2))
    assert row.action.kind == "add_layer"
    assert sum(row.net.depths) == sum(small_search.BASE.depths) + 1
    assert row.teacher == "" and not any("distill" in name for name in row.losses)
    kernel = "neck/lateral_p2/kernel"  # nothing is learned with this rate
    assert np.array_equal(weights[kernel], base.weights[kernel]) == inherit


@pytest.mark.slow
def test_elastic_teachers_change_with_their_students(folders):
    evaluator = Evaluator(small_search.recipe(folders / "base", folders / "pool"))
    base = evaluator.look_at(Job(0, 0))
    largest = evaluator.teachers.first(evaluator.base).subnet
    assert base.candidate.subnet == largest and base.candidate.image_size == (64, 64)
    row, _ = evaluator.look_at(child_of(base, 2))
    assert row.teacher == str(row.subnet) and row.image_size == row.subnet.image_size
    assert row.subnet != largest
    counted = profiling.profile_config(
        "faster-rcnn-test",
        dataclasses.replace(evaluator.base.config, backbone=row.net, image_size=row.image_size),
        row.image_size,
    )
    assert (row.macs, row.parameters) == (counted.macs, counted.parameters)


@pytest.mark.slow
def test_a_loss_that_explodes_is_a_row(folders, taught):
    _, base = taught
    hparams = "train.learning_rate=1e18,train.warmup_init=1e18,train.clip_gradients_norm=0"
    hparams += ",search.distil=false,search.steps=4"
    evaluator = Evaluator(small_search.recipe(folders / "base", hparams=hparams))
    row, weights = evaluator.look_at(child_of(base, 2))
    assert weights is None and row.score == 0
    assert "stopped being a finite number" in row.failure
    assert isinstance(row.action, Action)


def test_a_student_that_outgrows_its_teachers_draws_another_action(folders):
    # Only rows are made: nothing is trained.
    hparams = "morphism.kinds=[add_layer,prune_channels],morphism.share=0.3"
    evaluator = Evaluator(small_search.recipe(folders / "base", folders / "base", hparams))
    base = evaluator.base
    row = evaluator._row(Job(0, 0), small_search.BASE, None, evaluator.teachers.first(base))
    weights = take_weights(base)
    actions = {
        evaluator._make_child(Job(number, 1, row, row, weights)).action.kind
        for number in range(2, 6)
    }
    assert actions == {"prune_channels"}


def test_a_teacher_smaller_than_the_student_is_refused(folders):
    with pytest.raises(
        UserError, match=r"teacher has .* fewer than the student's .*larger teacher"
    ):
        Evaluator(small_search.recipe(folders / "base", folders / "smaller"))
    allowed = "train.distill.allow_smaller=true"
    Evaluator(small_search.recipe(folders / "base", folders / "smaller", allowed))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "efficientdet-test",
            r"base detector .*\(efficientdet-test\) stands on no ResNet",
        ),
        ("faster-rcnn-test", "does not stand on a ResNet"),
    ],
)
def test_a_base_of_another_family_is_refused(folders, tmp_path, name, message):
    folder = small_search.write_detector(tmp_path / "base", None, name)
    with pytest.raises(UserError, match=message):
        Evaluator(small_search.recipe(folder, folders / "larger"))


def test_a_teacher_of_another_family_is_refused(folders, tmp_path):
    folder = small_search.write_detector(tmp_path / "teacher", None, "efficientdet-test")
    with pytest.raises(UserError, match=r"the teacher .* has no regions to distil"):
        Evaluator(small_search.recipe(folders / "base", folder))


def test_a_base_that_finds_nothing_is_refused(folders):
    evaluator = Evaluator(small_search.recipe(folders / "base", hparams="search.distil=false"))
    evaluator._measure = lambda _: {"AP": 0.0}  # an untrained one may find something by chance
    with pytest.raises(UserError, match=r"has AP 0 on .*; train it before a search"):
        evaluator.look_at(Job(0, 0))


def test_too_few_images_are_refused(folders):
    hparams = "search.distil=false,search.steps=0,train.batch_size=5"
    with pytest.raises(UserError, match="has 4 images, fewer than one batch of 5"):
        Evaluator(small_search.recipe(folders / "base", hparams=hparams))
