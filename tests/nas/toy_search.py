"""A search without networks: candidates are numbers, so that the loop alone is looked at."""

import dataclasses
import time

import numpy as np

from tfdet.backbones.encoding import resnet_encoding
from tfdet.nas.candidates import Candidate
from tfdet.nas.evaluator import Outcome
from tfdet.nas.score import Measured, score
from tfdet.nas.search_recipe import SearchConfig, SearchRecipe

ENCODING = resnet_encoding((1, 1, 1, 1), stem=8, basic=True).to_text()


def recipe(**changes):
    defaults = {"candidates": 11, "generation": 4, "rank_weights": (3, 2, 1), "distil": False}
    return SearchRecipe(base="runs/base", search=SearchConfig(**{**defaults, **changes}))


def _ctrl_c():
    raise KeyboardInterrupt


class ToyWorkers:
    """Gives each candidate an AP that depends on its number and on its parent's weights.

    Args:
        order: of the jobs of a generation.
        seconds: spent with each.
        stop_before: number of the candidate before which a "kill" comes.
        stop: the kill.
        failing: numbers of candidates that fail.
    """

    def __init__(self, order=list, seconds=0.0, stop_before=None, failing=(), stop=_ctrl_c):
        self.order, self.seconds = order, seconds
        self.stop_before, self.failing = stop_before, failing
        self._stop = stop
        self.seen = []

    def look_at(self, jobs):
        for job in self.order(list(jobs)):
            if job.number == self.stop_before:
                self._stop()
            time.sleep(self.seconds)
            self.seen.append(job)
            yield toy_outcome(job, job.number in self.failing)


def toy_outcome(job, fails=False):
    past = job.weights["history"] if job.parent else np.zeros(0, np.int64)
    history = np.append(past, job.number)
    random = np.random.default_rng(history)
    giga = 1.0 if job.parent is None else float(random.uniform(0.5, 1.2))
    ap = 0.3 if job.parent is None else float(random.uniform(0.2, 0.4))
    row = Candidate(
        number=job.number,
        generation=job.generation,
        lineage=tuple(int(n) for n in history),
        action=None,
        encoding=ENCODING,
        image_size=(64, 64),
        subnet=None,
        teacher="",
        parameters=1000,
        macs=round(1e9 * giga),
        mmdet_flops=round(1e9 * giga),
        metrics={"AP": ap},
        losses={},
        score=1.0,
        steps=0,
        seconds=0.0,
    )
    if fails:
        return Outcome(dataclasses.replace(row, metrics={}, score=0.0, failure="it broke"), None)
    if job.parent:
        ours, base = (Measured(c.ap, c.mmdet_flops, c.parameters) for c in (row, job.base))
        row = dataclasses.replace(row, score=score(ours, base, recipe().score))
    return Outcome(row, {"history": history})
