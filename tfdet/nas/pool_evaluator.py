"""Subnets of a super-network as the candidates of a search: no training, only measurements.

Joint-DetNAS's search in its elastic teacher pool alone (ETP): a subnet keeps the super-network's
weights, gets batch-norm statistics of its own, and is measured.
"""

import dataclasses
import gc
import time

from tfdet.data import loader, sources
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.nas import weights as nas_weights
from tfdet.nas.candidates import Candidate
from tfdet.nas.evaluator import (
    CHANGE_STREAM,
    Job,
    Outcome,
    candidate_random,
    score_of,
    unmeasured,
)
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.subnets import Subnet
from tfdet.nas.teacher_pool import TeacherPool

_TRIES = 50


class PoolEvaluator:
    """Looks at subnets; data and super-network are read once.

    The first candidate is the largest subnet at the largest size, which scores are relative to. A
    child of it is any subnet; a child of another subnet differs from it in one place.

    Args:
        recipe: of the search, with `search.space` "pool". Mistakes in it are reported here, before
            anything is measured.
    """

    def __init__(self, recipe: SearchRecipe):
        self.recipe = recipe
        self.pool = TeacherPool.load(recipe.base, recipe.data.train)
        model = self.pool.model
        classes = model.config.class_names, model.config.class_ids
        self._val_data = sources.open_dataset(recipe.data.val, *classes)
        loader.check_usable(self._val_data)

    def look_at(self, job: Job) -> Outcome:
        """The subnet of a job; without a parent, the largest one."""
        started = time.monotonic()
        subnet = self.pool.space.largest if job.parent is None else self._next(job, job.parent)
        detector = self.pool.ready(subnet)
        metrics = coco.evaluate(detector, self._val_data, self.recipe.eval.batch_size)
        row = unmeasured(
            self.pool.model, job, self.pool.encoding(subnet), subnet.image_size, subnet
        )
        row = dataclasses.replace(row, metrics=metrics, score=1.0)
        if job.base is not None:
            row = dataclasses.replace(row, score=score_of(row, job.base, self.recipe.score))
        elif metrics["AP"] <= 0:
            raise UserError(
                f"the super-network {self.recipe.base} has AP {metrics['AP']:g} on "
                f"{self._val_data.name}; train it before a search"
            )
        weights = nas_weights.take_weights(detector)
        del detector
        gc.collect()  # graphs of a candidate hold each other
        seconds = round(time.monotonic() - started, 1)
        return Outcome(dataclasses.replace(row, seconds=seconds), weights)

    def _next(self, job: Job, parent: Candidate) -> Subnet:
        """A subnet that no earlier generation has seen, as far as one is found."""
        random = candidate_random(self.recipe, job.number, CHANGE_STREAM)
        space, subnet = self.pool.space, parent.subnet
        draws = self.recipe.search.next_teacher == "draw" or not parent.number
        for _ in range(_TRIES):
            subnet = space.draw(random) if draws else space.mutate(subnet, random)
            if subnet not in job.seen:
                break
        return subnet
