"""Training that starts from the weights of another run."""

import dataclasses
import pathlib
from typing import Any

import keras

from tfdet import config
from tfdet.errors import UserError
from tfdet.training import averaging, classifier, trained
from tfdet.weights import loading, origins
from tfdet.weights.importing import path_in


def with_settings(recipe: config.Recipe) -> config.Recipe:
    """The recipe whose model is the function of the weights that it starts from.

    Weights of another project ask for keys of the model; the recipe of the run keeps them, so that
    its folder loads again. Other keys, and training folders, leave the recipe as it is.
    """
    source = recipe.train.pretrained
    if not source or _is_folder(source):
        return recipe
    name = recipe.model.get("name", config.DEFAULT_MODEL)
    changes = {key: value for key, value in recipe.model.items() if key != "name"}
    origin = origins.open_origin(name, source, changes)
    if not origin.settings:
        return recipe
    model = origins.settings_for_training(name, origin, recipe.model)
    return dataclasses.replace(recipe, model=model)


def start_from(model: keras.Model, source: str, name: str | None = None) -> str:
    """Copies weights into `model`; returns a sentence about what was taken and what was not.

    Weights of a training folder are found by their path, so that a model with other classes,
    another image size or another number of levels takes what fits.

    Args:
        model: a built model.
        source: a folder that `tfdet-train` or `tfdet-pretrain` wrote, or weights as
            `weights.loading.create` takes them.
        name: of the model in the registry; its own name where not given.
    """
    path = pathlib.Path(source)
    if (path / trained.PRETRAINING_FILE).is_file():
        return _copy(model, classifier.load_classifier(path), source)
    if _is_folder(source):
        return _copy(model, trained.load_trained(path), source)
    name = name or model.name
    try:
        report = loading.load(model, origins.open_origin(name, source), name)
    except UserError as error:
        if not source.endswith(".weights.h5"):
            raise
        raise UserError(
            f"{error}; of a training folder in its place, all weights that fit are taken"
        ) from None
    return report.sentence("starting from")


def _is_folder(source: str) -> bool:
    """Whether it is a folder of ours; one of a TensorFlow checkpoint has an .index file."""
    path = pathlib.Path(source)
    if source in (*origins.KINDS, origins.SHAPES):  # a data set may lie in a folder of that name
        return (path / trained.RECIPE_FILE).is_file() or (path / trained.PRETRAINING_FILE).is_file()
    return path.is_dir() and not any(path.glob("*.index"))


def _copy(model: keras.Model, other: Any, source: str) -> str:
    theirs = {path_in(other, v): v for v in other.weights}
    taken = []
    left = []
    for variable in model.weights:
        path = path_in(model, variable)
        match = theirs.get(path)
        if match is not None and tuple(match.shape) == tuple(variable.shape):
            variable.assign(averaging.read(match))
            taken.append(path)
        else:
            left.append(path)
    if not taken:
        raise UserError(f"no weight of {source} fits this model; is it of another family?")
    sentence = f"starting from {len(taken)} weights of {source}"
    if left:
        sentence += f"; {len(left)} are new: {', '.join(left[:4])}{', ...' if left[4:] else ''}"
    return sentence
