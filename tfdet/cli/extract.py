"""tfdet-extract: a subnet of a trained super-network as a detector of its own."""

import dataclasses
import sys
import types
from typing import Any

from absl import flags

from tfdet.cli import app
from tfdet.cli import flags as common

COMMAND = app.Command(
    name="tfdet-extract",
    purpose="Cuts a subnet out of a super-network and recomputes its batch-norm statistics.",
    example="""
        tfdet-extract --model_dir=runs/pool_2 --output=runs/subnet \\
            --depths=1,2,2,1 --widths=1,1,1.25,1 --image_size=128,128
        tfdet-eval --model_dir=runs/subnet
    """,
    required=("model_dir", "output"),
)
flags.DEFINE_string(
    "model_dir",
    None,
    "Folder that tfdet-train wrote with train.elastic; its last weights.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "output",
    None,
    "New folder for the subnet: what tfdet-eval, tfdet-export, --pretrained and "
    "train.distill.teacher take.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_list(
    "depths", None, "Blocks of each stage; by default the most.", flag_values=COMMAND.flags
)
flags.DEFINE_list(
    "widths",
    None,
    "Width coefficient of each stage; by default the largest.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_list(
    "image_size",
    None,
    "Height and width of the canvas; by default the largest.",
    flag_values=COMMAND.flags,
)
common.define_data(
    COMMAND.flags, "Images for the statistics of batch norms, in place of the training data"
)


def main(options: types.SimpleNamespace) -> None:
    """Loads the pool, cuts, measures, and writes the folder."""
    common.check_new_folder(options, "output")
    changes = {
        "depths": _numbers(options, "depths", int),
        "widths": _numbers(options, "widths", float),
        "image_size": _numbers(options, "image_size", int),
    }
    from tfdet import profiling
    from tfdet.nas import teacher_pool

    pool = teacher_pool.TeacherPool.load(options.model_dir, options.data or "")
    subnet = dataclasses.replace(
        pool.space.largest, **{name: value for name, value in changes.items() if value}
    )
    print(f"subnet {subnet}; measuring its batch norms", flush=True)
    detector = pool.ready(subnet)
    cost = profiling.profile(detector)
    print(
        f"{cost.parameters_total / 1e6:.4g} M parameters, {cost.macs / 1e9:.4g} G multiply-adds\n"
        f"{detector.config.backbone.to_table()}"
    )
    _write(options, detector)
    print(f"wrote {options.output}; `tfdet-eval --model_dir={options.output}` measures it")


def _numbers(options: types.SimpleNamespace, name: str, kind: type) -> tuple[Any, ...]:
    texts = getattr(options, name) or ()
    try:
        return tuple(kind(text) for text in texts)
    except ValueError:
        raise app.UsageError(
            f"--{name} must be numbers with commas between, got {','.join(texts)}"
        ) from None


def _write(options: types.SimpleNamespace, detector: Any) -> None:
    from tfdet.training import trained

    recipe = trained.trained_recipe(options.model_dir)
    kept = {"gamma_l1": recipe.train.additions["gamma_l1"]}
    recipe = dataclasses.replace(
        recipe,
        model={**recipe.model, "image_size": list(detector.config.image_size)},
        train=dataclasses.replace(recipe.train, additions=kept),
    )
    trained.save_student(detector, recipe, options.output, options.typed)


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
