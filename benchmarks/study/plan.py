"""What a study is: a YAML file with arms, each a recipe with changes, and seeds.

title: PackDet and FCOS at equal cost
asked: Does one long head on a packed map find more than five short ones?
found: It is {AP[packdet - fcos]}.
seeds: [0, 1, 2]
changes: {data.train: "shapes:train:200", train.num_epochs: 30}
arms:
  fcos: {title: FCOS, recipe: fcos/nano_shapes}
  packdet: {title: PackDet, recipe: packdet/nano_shapes}
  router: {title: Router, start: joint, recipe: ..., then: {recipe: ..., changes: ...}}
compare: [[packdet, fcos]]
columns: [AP, AP50, macs]
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tfdet import config, documents, records
from tfdet.errors import UserError
from tfdet.nas.search_recipe import SearchRecipe

# What the runner decides by itself: it belongs to no arm, and changes no result.
_OF_THE_RUNNER = ("train.seed", "train.save_seconds", "search.seed", "eval.")
# A value that stands for the folder of another arm's model.
_MODEL_OF = "arm:"
_ANY_SEARCH = SearchRecipe(teacher="any")


@dataclasses.dataclass(frozen=True)
class Step:
    """A training from the weights of the one before it.

    Attributes:
        recipe: path or name of a recipe.
        changes: dotted keys and their values; they win over those of the study. "arm:fcos" stands
            for the folder of the model of the arm fcos, of the same seed.
    """

    recipe: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        title: of its row.
        recipe, changes: of its training, see `Step`.
        command: "search" is a search of Joint-DetNAS, whose best student is fine-tuned and then
            measured; where the recipe searches a pool, its best subnet is measured as it is. The
            changes of the study are not for it.
        start: name of the arm whose weights of the same seed it starts from; "" for none.
        then: a second training from the weights of the first, a router's for example.
        seeds: where they are other than those of the study.
    """

    title: str
    recipe: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    command: Literal["train", "search"] = "train"
    start: str = ""
    then: Step | None = None
    seeds: tuple[int, ...] = ()

    @property
    def steps(self) -> list[Step]:
        """Its trainings, in their order."""
        return [Step(self.recipe, self.changes), *([self.then] if self.then else [])]

    @property
    def needs(self) -> list[str]:
        """The arms whose models it uses."""
        named = [name for step in self.steps for name in _arms_in(step.changes)]
        return list(dict.fromkeys([*([self.start] if self.start else []), *named]))


@dataclasses.dataclass(frozen=True)
class Study:
    """Arms times seeds.

    Attributes:
        name: of the file, without its ending.
        title: of the page.
        asked: the question, one sentence.
        found: what came out; "{AP[a]}" stands for the mean of an arm, "{AP[a - b]}" for a paired
            difference with its interval. Without it the page lists the compared arms.
        setting: what is the same for all runs, in words.
        remarks: Markdown below the tables, with the same placeholders.
        seeds: of each arm.
        changes: of all arms and steps.
        arms: in the order of the page. One that another starts from comes before it.
        compare: pairs of arms; the second is subtracted from the first.
        columns: values of the rows in the table, see `benchmarks.study.measure`; "a - b" is the
            difference of two values of the same run, with its interval.
        details: values of a second table, of the arms that have any of them.
        times: also take the time "ms" of each arm's network, frozen, with one image.
        figure: the column that the plot has the first one over; "" plots the arms one by one.
        unpictured: arms that the gallery leaves out, since their images belong to others.
    """

    name: str
    title: str
    asked: str
    arms: dict[str, Arm]
    seeds: tuple[int, ...]
    found: str = ""
    setting: str = ""
    remarks: str = ""
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    compare: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ("AP", "AP50", "AP75", "macs", "cpu_minutes")
    details: tuple[str, ...] = ()
    times: bool = False
    figure: str = ""
    unpictured: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: list[str] = []
        for name, arm in self.arms.items():
            for needed in arm.needs:
                self._check_needed(name, needed, seen)
            seen.append(name)
        for key, names in (
            ("compare", itertools.chain(*self.compare)),
            ("unpictured", self.unpictured),
        ):
            for name in names:
                if name not in self.arms:
                    raise UserError(
                        f"study {self.name}: {key} names the arm {name!r}; "
                        f"{records.nearest(name, self.arms)}"
                    )

    def _check_needed(self, name: str, needed: str, seen: list[str]) -> None:
        if needed not in seen:
            raise UserError(
                f"study {self.name}: arm {name!r} starts from {needed!r}, which must be an arm "
                "above it"
            )
        if not set(self.seeds_of(name)) <= set(self.seeds_of(needed)):
            raise UserError(f"study {self.name}: arm {name!r} has seeds that {needed!r} lacks")

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        return self.arms[arm].seeds or self.seeds

    def runs(self) -> Iterator[tuple[str, int]]:
        """(arm, seed) of all runs; all arms of a seed come before the next seed.

        A study that is stopped early has whole pairs that way.
        """
        seeds = dict.fromkeys(seed for name in self.arms for seed in self.seeds_of(name))
        for seed in seeds:
            yield from ((name, seed) for name in self.arms if seed in self.seeds_of(name))

    def recipes(
        self, arm: str, seed: int, folders: Mapping[str, str] | None = None
    ) -> list[config.Recipe | SearchRecipe]:
        """The recipes of a run's steps, without the weights that they start from.

        Args:
            arm, seed: the run.
            folders: of the models of other arms, by name; None leaves "arm:NAME" as it is.
        """
        chosen, recipes = self.arms[arm], []
        for step in chosen.steps:
            changes = _placed(records.nest(step.changes), folders or {})
            if chosen.command == "search":
                recipes.append(_search_recipe(step.recipe, changes, seed))
            else:
                changes = records.merge(records.nest(self.changes), changes)
                recipes.append(_recipe(step.recipe, changes, seed))
        return recipes


def _recipe(path: str, changes: Mapping[str, Any], seed: int) -> config.Recipe:
    own = {"train": {"seed": seed, "save_seconds": 60.0}, "eval": {"pictures": 0}}
    recipe = config.make_recipe([path], records.merge(changes, own))
    # One measurement, at the end: the best of several would be chosen by the validation data.
    once = dataclasses.replace(recipe.eval, interval=recipe.train.num_epochs)
    return dataclasses.replace(recipe, eval=once)


def _search_recipe(path: str, changes: Mapping[str, Any], seed: int) -> SearchRecipe:
    own = {"search": {"seed": seed}, "eval": {"pictures": 0}}
    recipe = config.make_recipe([path], records.merge(changes, own), SearchRecipe)
    once = dataclasses.replace(recipe.eval, interval=recipe.finetune.num_epochs)
    return dataclasses.replace(recipe, eval=once)


def _arms_in(value: Any) -> list[str]:
    """The arms that values at any depth stand for."""
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in _arms_in(item)]
    is_arm = isinstance(value, str) and value.startswith(_MODEL_OF)
    return [value.removeprefix(_MODEL_OF)] if is_arm else []


def _placed(value: Any, folders: Mapping[str, str]) -> Any:
    """Changes with folders in the place of arms."""
    if isinstance(value, Mapping):
        return {key: _placed(item, folders) for key, item in value.items()}
    return folders.get(_arms_in(value)[0], value) if _arms_in(value) else value


def read(path: str | pathlib.Path) -> Study:
    """The study of a YAML file; raises `UserError` where a key, an arm or a recipe is wrong."""
    data = documents.read_yaml(path, "study")
    if not isinstance(data, Mapping) or not isinstance(data.get("arms"), Mapping):
        raise UserError(f"study {path} must have keys such as title, seeds and arms")
    arms = {
        str(name): records.from_dict(Arm, arm, f"arms.{name}") for name, arm in data["arms"].items()
    }
    return records.from_dict(Study, {**data, "name": pathlib.Path(path).stem, "arms": arms})


def described(recipe: config.Recipe | SearchRecipe) -> dict[str, Any]:
    """The dotted keys of a recipe that differ from the defaults, ready for JSON.

    This is what makes two runs the same: a row counts as long as its arm has these keys.
    """
    default = config.Recipe() if isinstance(recipe, config.Recipe) else _ANY_SEARCH
    ours, defaults = (dict(records.flatten(records.to_dict(x))) for x in (recipe, default))
    model = {key: value for key, value in ours.items() if key.startswith("model.")}
    other = {key: value for key, value in ours.items() if value != defaults.get(key)}
    return {k: v for k, v in (model | other).items() if not k.startswith(_OF_THE_RUNNER)}
