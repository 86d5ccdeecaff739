"""tfdet-inspect: what a model is made of and what it costs; what is in an export."""

import json
import sys
import types
from typing import Any

from absl import flags

from tfdet.cli import app
from tfdet.cli import flags as common

COMMAND = app.Command(
    name="tfdet-inspect",
    purpose="Counts a model's parameters and multiply-adds, part by part; shows what an export "
    "holds; without a model, lists the names by family.",
    example="""
        tfdet-inspect --model_name=efficientdet-d0
        tfdet-inspect --model_name=efficientdet-d3 --image_size=640,960 \\
            --hparams=model.fpn=panet,model.fpn_fusion=sum --format=json
        tfdet-inspect --saved_model=served/cells/1
    """,
)
flags.DEFINE_string("model_name", None, "Name of a registered model.", flag_values=COMMAND.flags)
flags.DEFINE_string(
    "saved_model",
    None,
    "Folder that tfdet-export wrote, in any format: its labels and class ids, calibration, recipe, "
    "versions, and whether it runs here.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_list(
    "image_size",
    None,
    "HEIGHT,WIDTH to count for; the model's own if left out.",
    flag_values=COMMAND.flags,
)
common.define_recipe(
    COMMAND,
    "model.fpn_width=88,model.num_classes=20",
    "Only its model section matters here.",
    of="tfdet-train",
)
flags.DEFINE_enum(
    "format",
    "text",
    ["text", "json"],
    "A table, or JSON with the same numbers.",
    flag_values=COMMAND.flags,
)


def main(options: types.SimpleNamespace) -> None:
    size = _image_size(options.image_size)
    if options.saved_model:
        _inspect_export(options)
        return
    from tfdet import config, profiling, registry

    if not options.model_name and not options.hparams:
        if size:
            raise app.UsageError("--image_size needs a model: give --model_name or --hparams")
        as_json = options.format == "json"
        print(json.dumps(registry.list_models()) if as_json else _listing(registry.families()))
        return
    changes: dict[str, Any] = {"model.name": options.model_name} if options.model_name else {}
    if size:
        changes["model.image_size"] = size
    recipe = config.make_recipe(options.hparams, changes)
    name = recipe.model.get("name", config.DEFAULT_MODEL)
    profile = profiling.profile_config(name, recipe.model_config())
    as_json = options.format == "json"
    print(json.dumps(profile.to_dict(), indent=2) if as_json else profile.to_text())


def _inspect_export(options: types.SimpleNamespace) -> None:
    others = sorted(options.given & {"model_name", "image_size", "hparams"})
    if others:
        raise app.UsageError(f"--saved_model takes no --{others[0]}: an export cannot be changed")
    from tfdet.serving import inspection

    found = inspection.inspect(options.saved_model)
    as_json = options.format == "json"
    print(json.dumps(found.to_dict(), indent=1) if as_json else found.to_text())


def _listing(families: dict[str, list[str]]) -> str:
    """The names, indented below their family."""
    return "\n".join(line for key, names in families.items() for line in (key, *_indented(names)))


def _indented(names: list[str]) -> list[str]:
    return [f"  {name}" for name in names]


def _image_size(words: list[str] | None) -> tuple[int, int] | None:
    if words is None:
        return None
    if len(words) != 2 or not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise app.UsageError(f"--image_size must be HEIGHT,WIDTH in pixels, got {','.join(words)}")
    return int(words[0]), int(words[1])


def run() -> None:
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
