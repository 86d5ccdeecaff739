"""Training that starts from the weights of another run."""

import pathlib
from typing import Any

import keras

from tfdet.errors import UserError
from tfdet.training import averaging, classifier, trained
from tfdet.weights import stored


def start_from(model: keras.Model, source: str) -> str:
    """Copies weights into `model`; returns a sentence that says what was taken and what was not.

    Weights are found by their path, so that a model with other classes, another image size or
    another number of levels takes what fits.

    Args:
        model: a built model.
        source: a folder that `tfdet-train` or `tfdet-pretrain` wrote, or a .weights.h5 file of the
            same model.
    """
    path = pathlib.Path(source)
    if (path / trained.PRETRAINING_FILE).is_file():
        return _copy(model, classifier.load_classifier(path), source)
    if path.is_dir():
        return _copy(model, trained.load_trained(path), source)
    if not path.is_file():
        raise UserError(f"pretrained weights {source} do not exist")
    if not path.name.endswith(".weights.h5"):
        raise UserError(
            f"pretrained weights must be a training folder or a .weights.h5 file, got {source}"
        )
    try:
        stored.load(model, path)
    except UserError as error:
        raise UserError(
            f"{error}; of a training folder in its place, all weights that fit are taken"
        ) from None
    return f"starting from all weights of {source}"


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


def path_in(model: keras.Model, variable: keras.Variable) -> str:
    """The variable's path without the name of the model."""
    return variable.path.removeprefix(f"{model.name}/")
