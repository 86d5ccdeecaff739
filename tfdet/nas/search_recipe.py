"""The recipe of a search: a YAML file with these sections.

base: runs/base            # a trained two-stage detector
teacher: runs/super_net    # who teaches the candidates
search: {candidates: 100, generation: 5}
morphism: {share: 0.1}
score: {alpha: 0.4}
train: {batch_size: 4, num_epochs: 3, learning_rate: 0.01}
finetune: {batch_size: 4, num_epochs: 16, learning_rate: 0.01}
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from tfdet import config, limits
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind
from tfdet.nas.morphism import MorphismConfig
from tfdet.nas.score import ScoreConfig


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The loop.

    Attributes:
        space: what candidates are. "morphism": students, the base changed by small actions; "pool":
            subnets of the base, an elastic super-network, measured with its weights and not
            trained, the paper's search in its teacher pool (ETP) alone. `frozen`, `inherit`,
            `distil`, `steps`, `sizes` and the recipe's section `train` are of students.
        candidates: how many are looked at; the base detector is one more.
        generation: how many are drawn at a time, before any of them is measured: as many can be
            trained in parallel. 1 is the paper's loop. It, not the number of workers, decides the
            outcome.
        frozen: the first N keep the base's architecture; only their teacher and size change.
        rank_weights: probabilities of the best, the second, ... to be a parent; as long as the
            pool.
        next_teacher: of an elastic one, and the next subnet where the space is the pool. "mutate":
            the parent's subnet, changed in one place; "draw": any of them.
        inherit: candidates begin with their parent's weights; false for new ones, as a control.
        distil: candidates learn from a teacher; false for ground truth only, as a control. Sizes
            are drawn all the same.
        steps: of a candidate's training; 0 for `train.num_epochs` passes over the data.
        sizes: (height, width) of images that are tried where the teacher is not elastic; empty for
            the base's alone. An elastic teacher has its own.
        batch_norm: of the candidates; "frozen" ones could not be pruned by their scales.
        threads: that a worker computes with, 0 for one per core. Sums depend on it in their last
            digits.
        seed: of everything that is drawn; that of a candidate follows from it and its number.
    """

    space: Literal["morphism", "pool"] = "morphism"
    candidates: int = 100
    generation: int = 5
    frozen: int = 5
    rank_weights: tuple[float, ...] = (5.0, 4.0, 3.0, 2.0, 1.0)
    next_teacher: Literal["mutate", "draw"] = "mutate"
    inherit: bool = True
    distil: bool = True
    steps: int = 0
    sizes: tuple[tuple[int, int], ...] = ()
    batch_norm: Kind = "synchronized"
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"candidates": 1, "generation": 1, "frozen": 0, "steps": 0, "threads": 0, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(
                    f"search.{name} must be at least {bound}, got {getattr(self, name)}"
                )
        most = {"candidates": limits.MAX_COUNT, "generation": limits.MAX_COUNT}
        for name, bound in (most | {"threads": limits.MAX_THREADS}).items():
            if getattr(self, name) > bound:
                raise UserError(f"search.{name} must be at most {bound}, got {getattr(self, name)}")
        if not self.rank_weights or min(self.rank_weights) <= 0:
            raise UserError(
                f"search.rank_weights must have numbers above 0, got {list(self.rank_weights)}"
            )
        if self.batch_norm == "frozen":
            raise UserError(
                "search.batch_norm must be plain or synchronized: channels are pruned by the "
                "scales of batch norms that are trained"
            )


@dataclasses.dataclass(frozen=True)
class SearchRecipe:
    """Everything that decides a search.

    Attributes:
        base: folder of the trained detector that the search begins with.
        teacher: folder of an elastic super-network, or of one detector that teaches all candidates;
            "" for none.
        data: what candidates are trained and measured on; what is left out is as in the base's
            recipe.
        search: the loop.
        morphism: the actions.
        score: the score.
        train: the training of a candidate.
        finetune: that of the found student after the search.
        eval: how both are measured.
    """

    base: str = ""
    teacher: str = ""
    data: config.DataConfig = dataclasses.field(default_factory=config.DataConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    morphism: MorphismConfig = dataclasses.field(default_factory=MorphismConfig)
    score: ScoreConfig = dataclasses.field(default_factory=ScoreConfig)
    train: config.TrainConfig = dataclasses.field(default_factory=config.TrainConfig)
    finetune: config.TrainConfig = dataclasses.field(default_factory=config.TrainConfig)
    eval: config.EvalConfig = dataclasses.field(default_factory=config.EvalConfig)

    def __post_init__(self) -> None:
        for name in ("train", "finetune"):
            settings = getattr(self, name)
            has_teacher = bool(settings.additions["distill"].teacher)
            if has_teacher or settings.pretrained:
                key = "distill.teacher" if has_teacher else "pretrained"
                raise UserError(f"{name}.{key} is chosen by the search; leave it out")
        if self.search.space == "pool":
            self._check_pool()
        elif self.search.distil and not self.teacher:
            raise UserError(
                "no teacher: give the folder of an elastic super-network or of a detector, or set "
                "search.distil to false"
            )

    def _check_pool(self) -> None:
        """Refuses what a search without trainings would not read."""
        search = self.search
        unused = {
            "teacher": self.teacher,
            "search.steps": search.steps,
            "search.sizes": search.sizes,
            "search.inherit=false": not search.inherit,
        }
        for key, is_set in unused.items():
            if is_set:
                raise UserError(
                    f"{key} is not for search.space=pool: its candidates are subnets of the base, "
                    "with its weights and sizes, and nobody trains them; leave it out"
                )


def make_search_recipe(
    hparams: Iterable[str] = (), changes: Mapping[str, Any] | None = None
) -> SearchRecipe:
    """As `config.make_recipe`; the data that is left out is that of the base's recipe."""
    from tfdet.training import trained

    recipe = config.make_recipe(hparams, changes, SearchRecipe)
    if not recipe.base:
        raise UserError("no base detector: give --base, the folder of a trained one")
    theirs = trained.trained_recipe(recipe.base).data
    data = dataclasses.replace(
        recipe.data, train=recipe.data.train or theirs.train, val=recipe.data.val or theirs.val
    )
    for name in ("train", "val"):
        if not getattr(data, name):
            raise UserError(f"no data: data.{name} is neither in this recipe nor in the base's")
    return dataclasses.replace(recipe, data=data)
