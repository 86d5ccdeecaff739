"""Who teaches the candidates of a search, and at which size of images."""

import pathlib
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfdet.nas import distill
from tfdet.nas.candidates import Candidate
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.subnets import Subnet
from tfdet.nas.teacher_pool import TeacherPool
from tfdet.training import trained


class Lesson(NamedTuple):
    """How a candidate is taught.

    Attributes:
        image_size: (height, width) that teacher and student see.
        subnet: of an elastic teacher.
        teacher: its name for people; "" for nobody.
    """

    image_size: tuple[int, int]
    subnet: Subnet | None
    teacher: str


class Teachers(Protocol):
    def first(self, base: Any) -> Lesson:
        """What stands beside the base detector, which is not taught."""

    def next(self, student: Any, parent: Candidate, random: np.random.Generator) -> Lesson:
        """A change of the parent's lesson, for a student that has been built."""

    def model(self, student: Any, lesson: Lesson) -> Any:
        """The teacher of a lesson, None for nobody; one that does not fit is refused."""


class ElasticTeachers:
    """Subnets of a super-network; the next is the parent's, changed in one place.

    Args:
        pool: the super-network.
        draws: the next is any other that is not smaller than the student.
        distil: False draws lessons all the same, for their sizes, but nobody teaches.
        allow_smaller: teachers may have fewer parameters than their students.
    """

    def __init__(self, pool: TeacherPool, draws: bool, distil: bool, allow_smaller: bool):
        self._pool, self._draws = pool, draws
        self._distil, self._allow_smaller = distil, allow_smaller

    def first(self, base: Any) -> Lesson:
        if self._distil:
            distill.check_pair(base, self._pool.model, self._allow_smaller)
        return self._lesson(self._pool.space.largest)._replace(image_size=base.image_size)

    def next(self, student: Any, parent: Candidate, random: np.random.Generator) -> Lesson:
        # A mutation of any subnet is any subnet.
        start = self._pool.space.draw(random) if self._draws else parent.subnet
        return self._lesson(self._pool.subnet_for(student, start, random))

    def model(self, student: Any, lesson: Lesson) -> Any:
        if not self._distil:
            return None
        return self._pool.teacher_for(student, lesson.subnet, self._allow_smaller)

    def _lesson(self, subnet: Subnet) -> Lesson:
        return Lesson(subnet.image_size, subnet, str(subnet) if self._distil else "")


class OneTeacher:
    """One detector, or nobody; the next size is any other of some.

    Args:
        teacher: frozen; None for nobody.
        name: its name for people.
        sizes: that are tried; empty for the base's alone.
        allow_smaller: it may have fewer parameters than its students.
    """

    def __init__(
        self, teacher: Any, name: str, sizes: tuple[tuple[int, int], ...], allow_smaller: bool
    ):
        self._teacher, self._name, self._sizes = teacher, name, sizes
        self._allow_smaller = allow_smaller

    def first(self, base: Any) -> Lesson:
        lesson = Lesson(tuple(base.image_size), None, self._name)
        self.model(base, lesson)
        return lesson

    def next(self, student: Any, parent: Candidate, random: np.random.Generator) -> Lesson:
        others = [size for size in self._sizes if size != parent.image_size]
        # An elastic teacher changes its size in one of three draws, so that most lessons keep it.
        if not others or random.integers(3):
            return Lesson(parent.image_size, None, self._name)
        return Lesson(others[random.integers(len(others))], None, self._name)

    def model(self, student: Any, lesson: Lesson) -> Any:
        if self._teacher is not None:
            distill.check_pair(student, self._teacher, self._allow_smaller)
        return self._teacher


def make_teachers(recipe: SearchRecipe) -> Teachers:
    """The teachers that a recipe wants; their weights are read."""
    search, allow_smaller = recipe.search, recipe.train.additions["distill"].allow_smaller
    if recipe.teacher and trained.trained_recipe(recipe.teacher).train.additions["elastic"]:
        pool = TeacherPool.load(recipe.teacher)
        return ElasticTeachers(pool, search.next_teacher == "draw", search.distil, allow_smaller)
    teacher = distill.load_teacher(recipe.teacher) if search.distil else None
    name = pathlib.Path(recipe.teacher).name if search.distil else ""
    return OneTeacher(teacher, name, search.sizes, allow_smaller)
