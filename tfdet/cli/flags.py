"""Flags that several commands share, so that they read and mean the same everywhere."""

import os
import pathlib
import tempfile
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet.cli import app
from tfdet.errors import UserError
from tfdet.recipes import catalog

if TYPE_CHECKING:
    from tfdet.detectors.base import Detector
    from tfdet.serving.driver import Driver

DATA_HELP = (
    "shapes[:SPLIT], coco:ANNOTATIONS.json[:IMAGE_DIR], voc:DIR[:SPLIT], yolo:DATA.yaml[:SPLIT], "
    "yolo:DIR[:SPLIT] or tfrecord:PATTERN; coco, voc and yolo take :train and :val also where the "
    "data set has no splits"
)


def define_recipe(command: app.Command, example: str, note: str = "", of: str = "") -> None:
    """Adds `--hparams` and `--list_recipes`.

    Args:
        command: that takes recipes.
        example: of keys and values.
        note: what the help of `--hparams` ends with.
        of: the command whose recipes are listed; `command` itself by default.
    """
    absl_flags.DEFINE_multi_string(
        "hparams",
        [],
        f"A recipe by its name (see --list_recipes), a file of yours (.yaml), or {example}; may be "
        f"repeated, later ones win. {note or 'The other flags win over all of them.'}",
        flag_values=command.flags,
    )
    absl_flags.DEFINE_bool(
        "list_recipes", False, "Print the names of the recipes and stop.", flag_values=command.flags
    )
    command.listings["list_recipes"] = lambda: catalog.listing(of or command.name)


def define_model(flags: absl_flags.FlagValues) -> None:
    """Adds the flags that name a model: a training folder, or a registered name and weights."""
    absl_flags.DEFINE_string(
        "model_dir", None, "Folder that tfdet-train wrote; its best weights.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "model_name",
        None,
        "Name of a registered model, in place of --model_dir.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "weights",
        None,
        "Weights for --model_name: coco, imagenet or shapes, a file of tfdet or of another "
        "project, SOURCE:FILE, or a name that tfdet-weights list shows.",
        flag_values=flags,
    )
    absl_flags.DEFINE_multi_string(
        "hparams",
        [],
        "Changes of the model, such as model.nms.iou_threshold=0.5; may be repeated.",
        flag_values=flags,
    )


def define_data(flags: absl_flags.FlagValues, purpose: str) -> None:
    """Adds `--data`, whose help begins with `purpose`."""
    absl_flags.DEFINE_string("data", None, f"{purpose}: {DATA_HELP}.", flag_values=flags)


def define_batch_size(flags: absl_flags.FlagValues) -> None:
    """Adds `--batch_size`, which the size of the network's images chooses where it is not given."""
    absl_flags.DEFINE_integer(
        "batch_size",
        None,
        "Images per step; by default as many as have 2 megapixels together where the network sees "
        "them, at most 32: 32 of 256x256, 8 of 512x512, 2 of 1024x1024.",
        flag_values=flags,
    )


def define_effort(flags: absl_flags.FlagValues) -> None:
    """Adds the flags that choose what a dynamic detector spends on an image."""
    absl_flags.DEFINE_float(
        "effort",
        None,
        "Calibrated dynamic detectors: from 0, the least they can do, to 1, everything.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "threshold",
        None,
        "Dynamic detectors, in place of --effort: images less easy than this go to the second "
        "detector; 0 none, 1 all. CADDet: gates below this are closed.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "target_madds",
        None,
        "Calibrated dynamic detectors: mean multiply-adds per image, such as 3.5e9.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "target_latency_ms",
        None,
        "Calibrated dynamic detectors: mean milliseconds per image.",
        flag_values=flags,
    )


EFFORT_FLAGS = ("effort", "threshold", "target_madds", "target_latency_ms")


def check_effort(options: types.SimpleNamespace) -> None:
    """Refuses more than one of `EFFORT_FLAGS`, and values out of range."""
    given = [name for name in EFFORT_FLAGS if getattr(options, name) is not None]
    if len(given) > 1:
        raise app.UsageError(f"give only one of {' and '.join(f'--{name}' for name in given)}")
    for name in ("effort", "threshold"):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise app.UsageError(f"--{name} must be between 0 and 1, got {value}")
    check_positive(options, "target_madds", "target_latency_ms")


def chosen_threshold(options: types.SimpleNamespace, driver: "Driver") -> float | None:
    """The threshold that the flags ask for; None where they leave it as it is.

    Args:
        options: of the command.
        driver: what detects.
    """
    values = {name: getattr(options, name) for name in EFFORT_FLAGS}
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    ((name, value),) = given.items()
    if driver.threshold is None:
        raise UserError(
            f"--{name} is for dynamic detectors, and this one is static; "
            "the least score of a detection is --min_score of tfdet-infer"
        )
    if name == "threshold":
        return value
    from tfdet.serving import driver as drivers

    try:
        threshold = drivers.threshold_for(driver, **given)
    except UserError as error:
        raise UserError(f"--{error}") from None
    if name.startswith("target_"):
        _say_where_clipped(name, value, driver.calibration.target_range(name))
    return threshold


def _say_where_clipped(name: str, target: float, reachable: tuple[float, float]) -> None:
    least, most = reachable
    if not least <= target <= most:
        side, end = ("least", least) if target < least else ("most", most)
        print(f"--{name}={target:g} is out of reach: the {side} is {end:g}, which is taken")


def check_one_of(options: types.SimpleNamespace, *names: str) -> str:
    """Returns the only one of these flags that was given; none or several are a usage error."""
    given = [name for name in names if getattr(options, name)]
    listed = " or ".join(f"--{name}" for name in names)
    if not given:
        raise app.UsageError(f"give {listed}")
    if len(given) > 1:
        raise app.UsageError(f"give only one of {listed}")
    return given[0]


def check_positive(options: types.SimpleNamespace, *names: str) -> None:
    """Refuses zero and negative numbers in these flags; a flag without a value is fine."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise app.UsageError(f"--{name} must be above 0, got {value}")


def check_new_folder(options: types.SimpleNamespace, name: str) -> None:
    """Refuses, ahead of the work, a folder that holds something or cannot be made."""
    folder = pathlib.Path(getattr(options, name))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--{name}={folder} is there already; give a new folder")
    check_writable(folder, name)


def check_writable(folder: pathlib.Path, name: str) -> None:
    """Refuses, ahead of the work, a folder that cannot be made or written to; writes nothing.

    Args:
        folder: that is going to be made or written to.
        name: of the flag.
    """
    whole = folder.absolute()
    above = next(path for path in (whole, *whole.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=above):  # rights alone do not tell, and root has them all
            pass
    except OSError as error:
        reason = "" if above.is_dir() else ", which is a file"
        raise UserError(
            f"--{name}={folder}: nothing can be written to {above}{reason} ({error.strerror})"
        ) from None


def load_model(options: types.SimpleNamespace) -> "Detector":
    """The detector that `--model_dir`, or `--model_name` and `--weights`, stand for."""
    changes = model_changes(options.hparams)
    if "model_dir" in options.given:
        from tfdet.training import trained

        model = trained.load_trained(options.model_dir, changes=changes)
        print(f"model: {trained.weights_file(options.model_dir)}", flush=True)
        return model
    from tfdet import registry
    from tfdet.weights import loading

    if options.weights:
        model, report = loading.create_reported(options.model_name, options.weights, changes)
        print(f"model: {options.model_name}, {report.sentence()}", flush=True)
        return model
    model = registry.create(options.model_name, **changes)
    print(f"model: {options.model_name} with random weights, never trained", flush=True)
    return model


def model_changes(hparams: Iterable[str]) -> dict[str, Any]:
    """Overrides of a model's configuration from `--hparams`; only the section "model" is of use."""
    from tfdet import config

    changes = {}
    for item in hparams:
        if config.is_recipe(item):
            raise app.UsageError(
                f"--hparams={item}: recipes are for tfdet-train; here only keys of the model can "
                "be changed, such as model.nms.iou_threshold=0.5"
            )
        for key, value in config.parse_assignments(item).items():
            section, _, name = key.partition(".")
            if section != "model" or name in ("", "name"):
                raise app.UsageError(
                    f"--hparams={item}: only keys of the model can be changed here, "
                    "such as model.nms.iou_threshold=0.5"
                )
            changes[name] = value
    return changes


def check_model(options: types.SimpleNamespace, *others: str) -> str:
    """Refuses contradictory model flags; returns the one of `--model_dir` ... that was given."""
    given = check_one_of(options, "model_dir", "model_name", *others)
    if options.weights and os.path.isdir(options.weights):
        raise app.UsageError(f"--weights={options.weights} is a folder; give it as --model_dir")
    if options.weights and given != "model_name":
        raise app.UsageError(f"--weights belongs to --model_name; --{given} has its own")
    model_changes(options.hparams)
    if options.hparams and given in others:
        raise app.UsageError(f"--hparams cannot change what --{given} holds; export it again")
    return given
