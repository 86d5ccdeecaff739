"""tfdet-pretrain: trains a CADDet's grid as a classifier, for tfdet-train to start from."""

import sys
import types

from absl import flags

from tfdet.cli import app
from tfdet.cli import flags as common

COMMAND = app.Command(
    name="tfdet-pretrain",
    purpose="Trains the grid of a CADDet, all gates open, on images with one label each.",
    example="""
        tfdet-pretrain --hparams=caddet/pretrain_imagenet --model_dir=runs/imagenet \\
            --data=imagenet/train --val_data=imagenet/val
        tfdet-train --hparams=caddet/fcos_800_coco --pretrained=runs/imagenet \\
            --model_dir=runs/caddet
    """,
    required=("model_dir",),
)
flags.DEFINE_string(
    "model_dir",
    None,
    "Folder for weights and logs; a run that was killed resumes from it.",
    flag_values=COMMAND.flags,
)
common.define_recipe(COMMAND, "train.learning_rate=0.1,model.name=caddet-nano")
flags.DEFINE_string(
    "data",
    None,
    "Directory that has a folder of images for each class.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "val_data", None, "Validation images, in the same form.", flag_values=COMMAND.flags
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Images per step over all devices; by default the recipe's.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_integer(
    "num_epochs",
    None,
    "Passes over the training data; by default the recipe's.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_enum(
    "strategy",
    None,
    ["", "mirrored"],
    "mirrored: all devices of this machine; by default one.",
    flag_values=COMMAND.flags,
)

_RECIPE_KEYS = {
    "data": "data.train",
    "val_data": "data.val",
    "batch_size": "train.batch_size",
    "num_epochs": "train.num_epochs",
    "strategy": "train.strategy",
}


def main(options: types.SimpleNamespace) -> None:
    """Trains, and reports where the weights are."""
    common.check_positive(options, "batch_size", "num_epochs")
    from tfdet import config
    from tfdet.training import pretrain_recipe, pretraining

    given = [name for name in _RECIPE_KEYS if name in options.given]
    changes = {_RECIPE_KEYS[name]: getattr(options, name) for name in given}
    recipe = config.make_recipe(options.hparams, changes, pretrain_recipe.PretrainRecipe)
    pretraining.pretrain(recipe, options.model_dir, options.typed)
    print(
        f"weights and logs are in {options.model_dir}\n"
        f"next: tfdet-train --hparams=caddet/fcos_800_coco --pretrained={options.model_dir} "
        "--model_dir=FOLDER, or another CADDet with the same grid"
    )


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
