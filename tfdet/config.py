"""Recipes: a model, its data, its training and its measurements, in one YAML file.

    model: {name: efficientdet-d0, image_size: [512, 512]}
    data: {train: "coco:train.json:train2017", val: "coco:val.json:val2017"}
    train: {batch_size: 64, num_epochs: 300, learning_rate: 0.08}
    eval: {interval: 5}

Those of the package are found by their names, see `recipes.catalog`.
Every key has a default, and an unknown key is an error that names the nearest known one. `model` is
the name of a registered model and changes to its own configuration. A ResNet of any shape is a file
in it: `{name: faster-rcnn-r18, backbone: student.json}`, see `backbones.encoding`.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import yaml

from tfdet import additions, documents, expressions, limits, records, renames
from tfdet.backbones.encoding import Encoding
from tfdet.data import augment as augment_lib
from tfdet.errors import UserError
from tfdet.printable import shown
from tfdet.recipes import catalog

DEFAULT_MODEL = "efficientdet-d0"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is trained and measured on.

    Attributes:
        train, val: data sets, as `--data` takes them.
        augment: what is done to training images.
        max_boxes: ground-truth boxes kept per training image; the first ones are.
        cache: keep the decoded training images in memory; for small data sets.
        window_mb: for TFRecord files that do not fit in memory: they are read in long pieces, and
            images shuffled within windows of so many megabytes; two of them are kept. Each worker
            reads files of its own. 0 shuffles all images.
    """

    train: str = ""
    val: str = ""
    augment: augment_lib.AugmentConfig = dataclasses.field(
        default_factory=augment_lib.AugmentConfig
    )
    max_boxes: int = 100
    cache: bool = False
    window_mb: int = 0

    def __post_init__(self) -> None:
        _check_at_least(self, "data", max_boxes=1, window_mb=0)
        for name, most in (("max_boxes", limits.MAX_BOXES), ("window_mb", limits.MAX_WINDOW_MB)):
            if getattr(self, name) > most:
                raise UserError(f"data.{name} must be at most {most}, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained; the defaults are EfficientDet's, with a wave that falls to the end.

    Attributes:
        batch_size: images per step, over all replicas and workers.
        num_epochs: passes over the training data.
        optimizer: "sgd", "nesterov" (SGD with PyTorch's Nesterov momentum), "adam" or "adamw".
        momentum: SGD's momentum or Adam's beta_1.
        weight_decay: within the optimizers "nesterov" and "adamw"; that of a model is a part of its
            loss.
        decayed: the variables that `weight_decay` is for, as an expression of `rates`; kernels, and
            with ".*" everything that is trained.
        accumulate_batch: images per update, about: the gradients of
            round(accumulate_batch / batch_size) batches are added up, at least of one. The number
            grows from 1 during the warm-up. `weight_decay` holds for just `accumulate_batch` images
            and is scaled to those of an update. 0 updates after every batch.
        learning_rate: peak rate at a batch of `learning_rate_batch` images; it is scaled in
            proportion to `batch_size`, and `warmup_init` with it.
        learning_rate_batch: the batch that `learning_rate` is for; 0 takes the rate as it is.
        warmup_init, warmup_epochs: the rate rises in a line from `warmup_init` to the peak.
        warmup_steps: the warm-up has at least so many batches.
        warmup: "linear", or "constant": it stays at `warmup_init` before it jumps to the peak.
        bias_warmup_init, momentum_warmup_init: where the rate of biases (as it is) and the momentum
            of "nesterov" begin; None for `warmup_init` and `momentum`.
        rates: rules [[regular expression, factor], ...] that multiply the learning rate of the
            variables whose path within the model has a match anywhere; where several rules match,
            all factors count. `[["^backbone", 0.1], ["(bias|beta)$", 2]]` trains the biases of the
            backbone, those of norms too, at 0.2 of the rate. Published: biases at 2 (Detectron),
            "router" at 2.5 (Dynamic Routing).
        schedule: what follows: "half_cosine", which falls to 0 in runs of any length;
            "efficientdet_cosine", the published wave, which rises again for as long as the warm-up
            took; "epoch_cosine" (YOLO's), "stepwise", "polynomial" or "constant".
        last_share: "epoch_cosine" ends at this share of the peak.
        decay_epochs: "stepwise" divides the rate by 10 at the start of each of these epochs.
        polynomial_power: exponent of "polynomial".
        clip_gradients_norm: the norm that gradients of a batch are clipped to; 0 clips nothing.
        clip: "each_and_global": each gradient, then all of them together; "global": all of them
            together (PyTorch's `clip_grad_norm_`).
        ema_decay: decay of the weights' moving average, which is what is measured and exported;
            0 keeps none.
        ema_ramp: how that decay rises with the updates n: "fraction": up to n / (9 + n);
            "exponential" (YOLO's): by the factor 1 - exp(-n / 2000).
        mixed_precision: "float16" (with dynamic loss scaling), "bfloat16", or "" for float32.
        frozen: variables whose path within the model begins with a match of this expression are
            not trained; for example "backbone|neck".
        pretrained: weights to start from: a folder that tfdet-train or tfdet-pretrain wrote, or
            what `tfdet.create` takes as `weights`: "coco", "imagenet", a file. Those of other
            projects set the keys of `model` that make it their function.
        additions: {key: value} of the keys that other packages have registered, see `additions`; in
            a recipe they stand among the keys of this section.
        strategy: "" for one device, "mirrored" for all devices of this machine, "multi_worker"
            for the machines that TF_CONFIG lists.
        connect_seconds: how long "multi_worker" waits for the other machines.
        seed: of weights, data order and augmentation.
        deterministic: only operations that give the same bits each time.
        save_seconds: the state from which a killed run resumes is written this often.
    """

    batch_size: int = 64
    num_epochs: int = 300
    optimizer: Literal["sgd", "nesterov", "adam", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decayed: str = "kernel$"
    accumulate_batch: int = 0
    learning_rate: float = 0.08
    learning_rate_batch: int = 64
    warmup_init: float = 0.008
    warmup_epochs: float = 1.0
    warmup_steps: int = 0
    warmup: Literal["linear", "constant"] = "linear"
    bias_warmup_init: float | None = None
    momentum_warmup_init: float | None = None
    rates: tuple[tuple[str, float], ...] = ()
    schedule: Literal[
        "half_cosine", "efficientdet_cosine", "epoch_cosine", "stepwise", "polynomial", "constant"
    ] = "half_cosine"
    last_share: float = 0.1
    decay_epochs: tuple[float, ...] = (200.0, 250.0)
    polynomial_power: float = 0.9
    clip_gradients_norm: float = 10.0
    clip: Literal["each_and_global", "global"] = "each_and_global"
    ema_decay: float = 0.9998
    ema_ramp: Literal["fraction", "exponential"] = "fraction"
    mixed_precision: Literal["", "float16", "bfloat16"] = ""
    frozen: str = ""
    pretrained: str = ""
    additions: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={records.OPEN: additions.kinds}
    )
    strategy: Literal["", "mirrored", "multi_worker"] = ""
    connect_seconds: float = 300.0
    seed: int = 0
    deterministic: bool = False
    save_seconds: float = 300.0

    def __post_init__(self) -> None:
        _check_at_least(self, "train", batch_size=1, num_epochs=1, learning_rate_batch=0)
        _check_at_least(self, "train", learning_rate=0, warmup_init=0, warmup_epochs=0, seed=0)
        _check_at_least(self, "train", warmup_steps=0, last_share=0, connect_seconds=1)
        _check_at_least(self, "train", weight_decay=0, accumulate_batch=0)
        object.__setattr__(self, "additions", additions.complete(self.additions))
        self._check_optimizer()
        _check_at_least(self, "train", clip_gradients_norm=0, save_seconds=0, polynomial_power=0)
        if self.seed >= 2**32:
            raise UserError(f"train.seed must be below 2**32, got {self.seed}")
        for name in ("momentum", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"train.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.warmup_epochs >= self.num_epochs:
            raise UserError(
                f"train.warmup_epochs must be below train.num_epochs={self.num_epochs}, "
                f"got {self.warmup_epochs:g}; lower it too: train.warmup_epochs=0 is no warm-up"
            )
        if list(self.decay_epochs) != sorted(self.decay_epochs):
            raise UserError(f"train.decay_epochs must rise, got {list(self.decay_epochs)}")
        expressions.check("train.frozen", self.frozen)
        expressions.check("train.decayed", self.decayed)
        for i, (expression, factor) in enumerate(self.rates):
            expressions.check(f"train.rates[{i}][0]", expression)
            if not 0 <= factor < math.inf:
                raise UserError(
                    f"the factor of {expression!r} in train.rates must be at least 0, got {factor}"
                )

    def _check_optimizer(self) -> None:
        """Refuses keys that the chosen optimizer does not have."""
        homes = {
            "weight_decay": ("nesterov", "adamw"),
            "decayed": ("nesterov", "adamw"),
            "bias_warmup_init": ("nesterov",),
            "momentum_warmup_init": ("nesterov",),
        }
        for name, optimizers in homes.items():
            value = getattr(self, name)
            if value != getattr(TrainConfig, name) and self.optimizer not in optimizers:
                raise UserError(
                    f"train.{name}={value} does nothing with train.optimizer={self.optimizer!r}; "
                    f"leave it out, or choose optimizer {' or '.join(map(repr, optimizers))}"
                )
        if self.bias_warmup_init is not None:
            _check_at_least(self, "train", bias_warmup_init=0)
        if self.momentum_warmup_init is not None and not 0 <= self.momentum_warmup_init < 1:
            raise UserError(
                f"train.momentum_warmup_init must be in [0, 1), got {self.momentum_warmup_init}"
            )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """When and how the model is measured while it is trained.

    Attributes:
        interval: epochs between two measurements; the last epoch is always measured.
        batch_size: images per step.
        pictures: validation images drawn with their detections each time; 0 draws none.
    """

    interval: int = 5
    batch_size: int = 8
    pictures: int = 6

    def __post_init__(self) -> None:
        _check_at_least(self, "eval", interval=1, batch_size=1, pictures=0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        model: {"name": registered name, **changes to its configuration}.
        data: the data sets.
        train: the schedule.
        eval: the measurements.
    """

    model: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": DEFAULT_MODEL})
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        config = self.model_config()
        encoding = getattr(config, "backbone", None)
        if "backbone" in self.model and isinstance(encoding, Encoding):
            # What a file says, not its name: a training folder needs nothing from outside.
            model = {**self.model, "backbone": encoding.to_text()}
            object.__setattr__(self, "model", model)

    def model_config(self) -> Any:
        """The model's full configuration; raises `UserError` on a key that it does not have."""
        from tfdet import registry

        changes = {key: value for key, value in self.model.items() if key != "name"}
        base = registry.config(self.model.get("name", DEFAULT_MODEL))
        return records.replace(base, changes, "model")


def load_recipe(path: str | pathlib.Path, kind: type = Recipe) -> Any:
    """Reads a whole recipe, as `save_recipe` wrote it; `kind` is the dataclass that it is for."""
    data = _read_yaml(path)
    sections = [field.name for field in dataclasses.fields(kind)]
    missing = [name for name in sections if name not in data]
    if len(missing) == len(sections) or (kind is Recipe and "model" in missing):
        raise UserError(f"recipe {path} is cut or empty: it has no section {missing[0]!r}")
    with _at([(str(path), data)]):
        return records.from_dict(kind, renames.current(data, is_typed=False))


def save_recipe(recipe: Any, path: str | pathlib.Path) -> None:
    """Writes `recipe` as YAML that `load_recipe` reads back, without ever leaving half a file."""
    from tfdet import files

    text = yaml.safe_dump(records.to_dict(recipe), sort_keys=False, allow_unicode=True, width=100)
    files.write_text(path, text)


def make_recipe(
    hparams: Iterable[str] = (),
    changes: Mapping[str, Any] | None = None,
    kind: type = Recipe,
) -> Any:
    """The default recipe, changed by each of `hparams` in turn and by `changes` at the end.

    Args:
        hparams: each the name of a recipe of the package ("efficientdet/nano_shapes"), a path to a
            YAML file, or "train.learning_rate=0.01,model.name=...".
        changes: dotted keys ("train.batch_size") and values.
        kind: the dataclass that the recipe is for.
    """
    data: dict[str, Any] = {}
    parts = []
    for item in hparams:
        if is_recipe(item):
            part = _read_yaml(_recipe_file(item))
        else:
            part = records.nest(parse_assignments(item))
        parts.append((item, part))
        # One by one: an old key in a later part changes what the new key has from an earlier one.
        data = renames.current(records.merge(data, part))
    data = records.merge(data, records.nest(changes or {}))
    with _at(parts):
        return records.from_dict(kind, renames.current(data))


def is_recipe(item: str) -> bool:
    """Whether an item of `make_recipe`'s `hparams` is a whole recipe, by its name or as a file."""
    return item.lower().endswith(catalog.ENDINGS) or ("/" in item and "=" not in item)


def _recipe_file(item: str) -> str | pathlib.Path:
    if not item.lower().endswith(catalog.ENDINGS):
        return catalog.path(item)
    found = [] if os.path.exists(item) else catalog.nearest(item)
    if found:
        names = " or ".join(map(repr, found))
        raise UserError(f"recipe {item} cannot be read: No such file; did you mean {names}?")
    return item


@contextlib.contextmanager
def _at(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[None]:
    """Within it, unknown keys are told with the last file that has them."""
    try:
        yield
    except records.UnknownKey as error:
        holders = [name for name, data in parts if _has(data, error.place)]
        if not holders or "=" in holders[-1]:  # what stands in the command line is seen
            raise
        raise UserError(f"{holders[-1]}: {error}") from None


def _has(data: Any, place: str) -> bool:
    for name in place.split("."):
        if not isinstance(data, Mapping) or name not in map(str, data):
            return False
        data = next(value for key, value in data.items() if str(key) == name)
    return True


def parse_assignments(text: str) -> dict[str, Any]:
    """Reads "a.b=1,c=[1, 2],d=text" as {"a.b": 1, "c": [1, 2], "d": "text"}.

    Values are YAML; commas within brackets or quotes belong to the value.
    """
    assignments = {}
    for part in _split_at_commas(text):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UserError(
                "hparams must be the name of a recipe (`tfdet-train --list_recipes`), a .yaml file "
                f"or key=value pairs with commas between, got {shown(part)}{_offer(part)}"
            )
        if key.count(".") > limits.MAX_DEPTH:
            raise UserError(f"the key {shown(key.strip())} has too many dots")
        try:
            assignments[key.strip()] = documents.parse_yaml(value, key.strip())
        except UserError:
            raise UserError(f"the value of {key.strip()} cannot be read: {shown(value)}") from None
    return assignments


def _offer(typed: str) -> str:
    found = catalog.nearest(typed.strip())
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def differences(ours: Any, theirs: Any) -> list[str]:
    """Dotted keys whose values differ between two recipes, each with both values."""
    ours_flat = dict(records.flatten(records.to_dict(ours)))
    theirs_flat = dict(records.flatten(records.to_dict(theirs)))
    keys = dict.fromkeys([*ours_flat, *theirs_flat])
    return [
        f"{key}: {_short(ours_flat.get(key, 'unset'))} here, "
        f"{_short(theirs_flat.get(key, 'unset'))} there"
        for key in keys
        if ours_flat.get(key) != theirs_flat.get(key)
    ]


def _short(value: Any) -> str:
    # An encoding is text of some thousand letters.
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:50]}...{text[-20:]}"


def _read_yaml(path: str | pathlib.Path) -> dict[str, Any]:
    data = documents.read_yaml(path, "recipe")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"recipe {path} must have sections such as data and train")
    # A section whose keys are all commented out is read as None.
    return {key: value for key, value in data.items() if value is not None}


def _split_at_commas(text: str) -> list[str]:
    parts, start, depth, quote = [], 0, 0, ""
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _check_at_least(record: Any, where: str, **minima: float) -> None:
    for name, minimum in minima.items():
        if not minimum <= getattr(record, name) < math.inf:  # NaN compares as false
            raise UserError(
                f"{where}.{name} must be at least {minimum}, got {getattr(record, name)}"
            )
