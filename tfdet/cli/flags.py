"""Flags that several commands share, so that they read and mean the same everywhere."""

import os
import types
from collections.abc import Iterable
from typing import Any

from absl import flags as absl_flags

from tfdet.cli import app

DATA_HELP = (
    "shapes[:SPLIT], coco:ANNOTATIONS.json:IMAGE_DIR, voc:DIR:SPLIT, yolo:DATA.yaml:SPLIT or "
    "tfrecord:PATTERN"
)


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
        "weights", None, "Weights file (.weights.h5) for --model_name.", flag_values=flags
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


def load_model(options: types.SimpleNamespace) -> Any:
    """The detector that `--model_dir`, or `--model_name` and `--weights`, stand for."""
    changes = _model_changes(options.hparams)
    if "model_dir" in options.given:
        from tfdet.training import trained

        model = trained.load_trained(options.model_dir, changes=changes)
        print(f"model: {trained.weights_file(options.model_dir)}", flush=True)
        return model
    from tfdet import registry
    from tfdet.training import pretrained

    model = registry.create(options.model_name, **changes)
    if options.weights:
        pretrained.start_from(model, options.weights)
        print(f"model: {options.weights}", flush=True)
    else:
        print(f"model: {options.model_name} with random weights, never trained", flush=True)
    return model


def _model_changes(hparams: Iterable[str]) -> dict[str, Any]:
    """Overrides of a model's configuration from `--hparams`; only the section "model" is of use."""
    from tfdet import config

    changes = {}
    for item in hparams:
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
    _model_changes(options.hparams)
    if options.hparams and given in others:
        raise app.UsageError(f"--hparams cannot change what --{given} holds; export it again")
    return given
