"""A candidate's whole life: its change, its teacher, its short training, its measurement.

All that is drawn follows from the search's seed and the candidate's number, so that it does not
matter in which process a candidate is looked at, nor what was looked at before.
"""

import dataclasses
import gc
import time
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdet import profiling, registry
from tfdet.backbones.encoding import Encoding
from tfdet.data import loader, pipeline, sources
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.nas import weights as nas_weights
from tfdet.nas.candidates import Candidate
from tfdet.nas.fine_tune import fine_tune
from tfdet.nas.morphism import Action, apply_action, draw_action
from tfdet.nas.score import Measured, ScoreConfig, score
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.subnets import Subnet
from tfdet.nas.teachers import Lesson, make_teachers
from tfdet.nas.weights import Weights
from tfdet.training import trained
from tfdet.training.callbacks import NonFiniteLoss

_TRIES = 10
# The streams of random numbers of a candidate.
PARENT_STREAM, CHANGE_STREAM, TRAINING_STREAM = range(3)


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be looked at.

    Attributes:
        number, generation: of the candidate.
        parent: its parent, None for the base.
        base: candidate 0, None for the base itself.
        weights: the parent's.
        seen: subnets of earlier generations, where candidates are subnets.
    """

    number: int
    generation: int
    parent: Candidate | None = None
    base: Candidate | None = None
    weights: Weights | None = None
    seen: tuple[Subnet, ...] = ()


class Outcome(NamedTuple):
    """A candidate with its weights, None where it failed."""

    candidate: Candidate
    weights: Weights | None


class _Child(NamedTuple):
    """A candidate before its training."""

    student: Any
    action: Action | None
    lesson: Lesson
    teacher: Any


class Evaluator:
    """Looks at candidates; data, base and teachers are read once.

    Args:
        recipe: of the search. Mistakes in it are reported here, before anything is trained.
    """

    def __init__(self, recipe: SearchRecipe):
        self.recipe = recipe
        self.base = load_base(recipe)
        self._check_sizes()
        self.teachers = make_teachers(recipe)
        self._first = self.teachers.first(self.base)
        classes = self.base.class_names, self.base.class_ids
        self._train_data = sources.open_dataset(recipe.data.train, *classes)
        self._val_data = sources.open_dataset(recipe.data.val, *classes)
        for dataset in (self._train_data, self._val_data):
            loader.check_usable(dataset)
        settings = recipe.train
        passes = settings.num_epochs * (len(self._train_data) // settings.batch_size)
        self.steps = recipe.search.steps or passes
        if not self.steps:
            raise UserError(
                f"{self._train_data.name} has {len(self._train_data)} images, fewer than one batch "
                f"of {settings.batch_size}; lower train.batch_size"
            )

    def _check_sizes(self) -> None:
        for size in self.recipe.search.sizes:
            try:
                dataclasses.replace(self.base.config, image_size=size)
            except UserError as error:
                raise UserError(f"search.sizes has {list(size)}: {error}") from None

    def look_at(self, job: Job) -> Outcome:
        """The candidate of a job; without a parent, the base as it is."""
        started = time.monotonic()
        outcome = self._measure_base() if job.parent is None else self._look_at_child(job)
        gc.collect()  # graphs of a candidate hold each other
        seconds = round(time.monotonic() - started, 1)
        return outcome._replace(candidate=dataclasses.replace(outcome.candidate, seconds=seconds))

    def _measure_base(self) -> Outcome:
        encoding = nas_weights.model_encoding(self.base)
        row = self._row(Job(0, 0), encoding, None, self._first)
        metrics = self._measure(self.base)
        if metrics["AP"] <= 0:
            raise UserError(
                f"the base detector {self.recipe.base} has AP {metrics['AP']:g} on "
                f"{self._val_data.name}; train it before a search"
            )
        row = dataclasses.replace(row, metrics=metrics, score=1.0)
        return Outcome(row, nas_weights.take_weights(self.base))

    def _look_at_child(self, job: Job) -> Outcome:
        try:
            child = self._make_child(job)
        except UserError as error:
            return Outcome(self._failed(job, None, self._first, str(error)), None)
        try:
            losses = self._train(job, child)
        except NonFiniteLoss as error:
            encoding = nas_weights.model_encoding(child.student)
            row = self._failed(job, child.action, child.lesson, str(error), encoding)
            return Outcome(row, None)
        encoding = nas_weights.model_encoding(child.student)
        row = self._row(job, encoding, child.action, child.lesson)
        row = dataclasses.replace(
            row, metrics=self._measure(child.student), losses=losses, steps=self.steps
        )
        row = dataclasses.replace(row, score=score_of(row, job.base, self.recipe.score))
        return Outcome(row, nas_weights.take_weights(child.student))

    def _make_child(self, job: Job) -> _Child:
        """The student before its training, with its teacher.

        A student may outgrow its teachers by a layer that was added; then the action is drawn anew.
        """
        random = self._random(job, CHANGE_STREAM)
        parent = job.parent
        for trial in range(_TRIES):
            action, encoding, weights = self._change(job, random)
            student = self._student(encoding, weights, parent.image_size)
            lesson = self.teachers.next(student, parent, random)
            try:
                teacher = self.teachers.model(student, lesson)
            except UserError:
                if trial == _TRIES - 1:
                    raise
                continue
            if lesson.image_size != parent.image_size:
                student = self._student(encoding, weights, lesson.image_size)
            if not self.recipe.search.inherit:
                seed = int(self._random(job, TRAINING_STREAM).integers(2**31))
                student = self._new_student(encoding, lesson.image_size, seed)
            return _Child(student, action, lesson, teacher)
        raise AssertionError("the last try returns or raises")

    def _change(
        self, job: Job, random: np.random.Generator
    ) -> tuple[Action | None, Encoding, Weights]:
        encoding = job.parent.net
        if job.number <= self.recipe.search.frozen:
            return None, encoding, job.weights
        config = self.recipe.morphism
        action = draw_action(encoding, config, random)
        readers = nas_weights.model_readers(self.base)
        return action, *apply_action(encoding, job.weights, action, config, readers)

    def _train(self, job: Job, child: _Child) -> dict[str, float]:
        """Trains the student in place; the mean losses."""
        data, student = self.recipe.data, child.student
        seed = int(self._random(job, TRAINING_STREAM).integers(2**31))
        settings = dataclasses.replace(self.recipe.train, seed=seed)
        batches = pipeline.train_batches(
            self._train_data,
            student.image_size,
            settings.batch_size,
            data.augment,
            seed,
            student.pad_value,
            max_boxes=data.max_boxes,
            cache=data.cache,
            mask_size=student.mask_size,
        )
        return fine_tune(student, child.teacher, batches, self.steps, settings)

    def _measure(self, student: Any) -> dict[str, float]:
        return coco.evaluate(student, self._val_data, self.recipe.eval.batch_size)

    def _row(
        self, job: Job, encoding: Encoding, action: Action | None, lesson: Lesson
    ) -> Candidate:
        row = unmeasured(self.base, job, encoding, lesson.image_size, lesson.subnet)
        teacher = lesson.teacher if job.parent else ""
        return dataclasses.replace(row, action=action, teacher=teacher)

    def _failed(
        self,
        job: Job,
        action: Action | None,
        lesson: Lesson,
        reason: str,
        encoding: Encoding | None = None,
    ) -> Candidate:
        row = self._row(job, encoding or job.parent.net, action, lesson)
        return dataclasses.replace(row, failure=reason)

    def _config(self, encoding: Encoding, image_size: tuple[int, int]) -> Any:
        return dataclasses.replace(self.base.config, backbone=encoding, image_size=image_size)

    def _student(self, encoding: Encoding, weights: Weights, image_size: tuple[int, int]) -> Any:
        return nas_weights.rebuild(self.base, encoding, weights, image_size)

    def _new_student(self, encoding: Encoding, image_size: tuple[int, int], seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        config = self._config(encoding, image_size)
        student = type(self.base).from_record(config, self.base.name)
        student.build_variables()
        return student

    def _random(self, job: Job, stream: int) -> np.random.Generator:
        return candidate_random(self.recipe, job.number, stream)


def unmeasured(
    base: Any,
    job: Job,
    encoding: Encoding,
    image_size: tuple[int, int],
    subnet: Subnet | None = None,
) -> Candidate:
    """The row of a job's candidate with its counts and without measurements.

    Args:
        base: the detector whose backbone is changed.
        job: of the candidate.
        encoding: of its backbone.
        image_size: (height, width).
        subnet: of an elastic super-network.
    """
    config = dataclasses.replace(base.config, backbone=encoding, image_size=image_size)
    counts = profiling.profile_unbuilt(
        lambda: type(base).from_record(config, base.name), image_size
    )
    return Candidate(
        number=job.number,
        generation=job.generation,
        lineage=(*(job.parent.lineage if job.parent else ()), job.number),
        action=None,
        encoding=encoding.to_text(),
        image_size=tuple(image_size),
        subnet=subnet,
        teacher="",
        parameters=counts.trainable,
        macs=counts.macs,
        mmdet_flops=counts.mmdet_flops,
        metrics={},
        losses={},
        score=0.0,
        steps=0,
        seconds=0.0,
    )


def score_of(row: Candidate, base: Candidate, config: ScoreConfig) -> float:
    """The score of a measured candidate."""
    ours, theirs = (
        Measured(c.ap, getattr(c, config.operations), c.parameters) for c in (row, base)
    )
    return score(ours, theirs, config)


def candidate_random(recipe: SearchRecipe, number: int, stream: int) -> np.random.Generator:
    """The random numbers of a candidate; streams are independent of each other."""
    return np.random.default_rng([recipe.search.seed, number, stream])


def load_base(recipe: SearchRecipe) -> Any:
    """The base detector with its weights, all of it to be trained."""
    changes = {"batch_norm": recipe.search.batch_norm, "frozen_stages": 0}
    settings = trained.trained_recipe(recipe.base).model
    kind = registry.detector_class(settings["name"])
    known = {field.name for field in dataclasses.fields(kind.config_class)}
    if not {"backbone", *changes} <= known:
        raise UserError(
            f"the base detector {recipe.base} ({settings['name']}) stands on no ResNet that can be "
            "changed; use a Faster R-CNN or Mask R-CNN on a ResNet or an encoding"
        )
    base = trained.load_trained(recipe.base, changes=changes)
    nas_weights.model_encoding(base)
    return base


def prepare_process(recipe: SearchRecipe) -> None:
    """Sets the threads and the determinism that a recipe wants.

    Only a process that has not computed yet can do so.
    """
    if recipe.search.threads:
        tf.config.threading.set_intra_op_parallelism_threads(recipe.search.threads)
    if recipe.train.deterministic:
        tf.config.experimental.enable_op_determinism()
