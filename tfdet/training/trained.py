"""Models that `tfdet-train` left in a folder."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from tfdet import config, documents, files, records
from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError
from tfdet.weights import stored

RECIPE_FILE = "recipe.yaml"
PRETRAINING_FILE = "pretrain.yaml"  # in the place of the recipe, in folders of tfdet-pretrain
CALIBRATION_FILE = "calibration.json"


def load_trained(
    model_dir: str | pathlib.Path,
    which: Literal["best", "last"] = "best",
    changes: Mapping[str, Any] | None = None,
) -> Any:
    """The detector of a training folder, with its averaged weights and its class names.

    Args:
        model_dir: the folder that `tfdet-train` wrote.
        which: "best" takes the weights with the best AP, or the last ones where nothing has been
            measured; "last" takes the last ones.
        changes: keys of the model's configuration that shall differ from the recipe's, dotted
            ("nms.iou_threshold"); the weights must still fit.

    The calibration of a dynamic detector comes with the weights that it was made of.
    """
    from tfdet import registry

    recipe = trained_recipe(model_dir)
    weights = weights_file(model_dir, which)
    settings = records.merge(recipe.model, records.nest(changes or {}))
    name = settings.pop("name")
    model = registry.create(name, **settings)
    stored.load(model, weights)
    if model.is_dynamic:
        model.calibration = read_calibration(model_dir, weights.name)
    return model


def read_calibration(model_dir: str | pathlib.Path, weights: str) -> Calibration | None:
    """The calibration that was made of these weights of a training folder; None without one."""
    path = pathlib.Path(model_dir) / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        facts = documents.parse_json(documents.read_text(path, "calibration"), str(path))
        made_of, table = facts["weights"], records.from_dict(Calibration, facts["calibration"])
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{path} cannot be read ({error}); calibrate again") from None
    return table if made_of == weights else None


def write_calibration(
    model_dir: str | pathlib.Path, weights: str, calibration: Calibration
) -> pathlib.Path:
    """Keeps a calibration beside the weights that it was made of; returns the file."""
    path = pathlib.Path(model_dir) / CALIBRATION_FILE
    facts = {"weights": weights, "calibration": records.to_dict(calibration)}
    files.write_text(path, json.dumps(facts, indent=1) + "\n")
    return path


def save_student(
    model: Any, recipe: config.Recipe, model_dir: str | pathlib.Path, command: str = ""
) -> None:
    """Writes a training folder of a detector that was made from a trained one.

    Its recipe starts a training from these weights.

    Args:
        model: with an encoding as its backbone.
        recipe: of the detector that it was made from.
        model_dir: the folder; made if need be. Weights come first: without a recipe it is none yet.
        command: what the user typed, kept in the folder.
    """
    folder = pathlib.Path(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    stored.save(model, folder / "last.weights.h5")
    recipe = dataclasses.replace(
        recipe,
        model={**recipe.model, "backbone": model.config.backbone.to_text()},
        train=dataclasses.replace(recipe.train, pretrained=str(folder.absolute())),
    )
    config.save_recipe(recipe, folder / RECIPE_FILE)
    save_command(folder, command)


def save_command(folder: pathlib.Path, command: str) -> None:
    """Keeps what the user typed in a folder; "" leaves the file as it is."""
    if command:
        files.write_text(folder / "command.txt", command + "\n")


def trained_recipe(model_dir: str | pathlib.Path) -> config.Recipe:
    """The whole recipe that a training folder was made with."""
    path = pathlib.Path(model_dir) / RECIPE_FILE
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {model_dir}; give one that tfdet-train wrote")
    if not path.is_file():
        raise UserError(f"{model_dir} is not a training folder: it has no {RECIPE_FILE}")
    return config.load_recipe(path)


def weights_file(model_dir: str | pathlib.Path, which: str = "best") -> pathlib.Path:
    """Path of the best (else the last) or of the last weights in a training folder."""
    if which not in ("best", "last"):
        raise UserError(f"which must be 'best' or 'last', got {which!r}")
    names = ["best", "last"] if which == "best" else ["last"]
    for name in names:
        path = pathlib.Path(model_dir) / f"{name}.weights.h5"
        if path.is_file():
            return path
    raise UserError(f"{model_dir} has no weights yet; they are written when an epoch is measured")
