"""tfdet-prune: a trained detector on a ResNet, with fewer channels."""

import pathlib
import sys
import types
from typing import Any

from absl import flags

from tfdet.cli import app
from tfdet.cli import flags as common

COMMAND = app.Command(
    name="tfdet-prune",
    purpose="Removes the least important channels of a trained detector's ResNet.",
    example="""
        tfdet-prune --model_dir=runs/base --output=runs/pruned --target_share=0.75
        tfdet-eval --model_dir=runs/pruned
        tfdet-train --hparams=runs/pruned/recipe.yaml --model_dir=runs/tuned
    """,
    required=("model_dir", "output"),
)
flags.DEFINE_string(
    "model_dir",
    None,
    "Folder that tfdet-train wrote, of a detector on a ResNet; its best weights.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "output",
    None,
    "New folder for the pruned detector: what tfdet-eval, tfdet-export and --pretrained take.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_float(
    "target_madds",
    None,
    "Multiply-adds that an image may cost, such as 3.5e9.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_float(
    "target_share",
    None,
    "The same as a share of what an image costs now, such as 0.75.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_integer(
    "floor", 16, "The fewest channels that a convolution keeps.", flag_values=COMMAND.flags
)


def main(options: types.SimpleNamespace) -> None:
    """Loads, prunes, prints what went, and writes the folder."""
    _check(options)
    from tfdet import profiling
    from tfdet.nas import pruning, weights
    from tfdet.training import trained

    model = trained.load_trained(options.model_dir)
    weights.model_encoding(model)  # refuses other backbones, ahead of the work
    before = profiling.profile(model)
    print(f"model: {trained.weights_file(options.model_dir)}, {_cost(before)}", flush=True)
    print("looking for what to remove; a large network takes minutes", flush=True)
    target = options.target_madds or options.target_share * before.macs
    pruned = pruning.prune_to(model, target, options.floor)
    print(pruned.to_table())
    after = profiling.profile(pruned.model)
    share = after.macs / before.macs
    print(f"removed {pruned.removed}; left: {_cost(after)}, {100 * share:.1f} % of the cost")
    _write(options, pruned)
    print(
        f"wrote {options.output}; "
        f"`tfdet-train --hparams={options.output}/recipe.yaml --model_dir=...` trains it on"
    )


def _cost(profile: Any) -> str:
    return (
        f"{profile.parameters_total / 1e6:.4g} M parameters, "
        f"{profile.macs / 1e9:.4g} G multiply-adds"
    )


def _check(options: types.SimpleNamespace) -> None:
    common.check_positive(options, "target_madds", "target_share", "floor")
    common.check_one_of(options, "target_madds", "target_share")
    if options.target_share is not None and options.target_share >= 1:
        raise app.UsageError(f"--target_share must be below 1, got {options.target_share}")
    common.check_new_folder(options, "output")


def _write(options: types.SimpleNamespace, pruned: Any) -> None:
    from tfdet import files
    from tfdet.training import trained

    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    recipe = trained.trained_recipe(options.model_dir)
    files.write_text(output / "encoding.json", pruned.encodings[1].to_json())
    trained.save_student(pruned.model, recipe, output, options.typed)


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
