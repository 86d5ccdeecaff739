"""tfdet-train: trains a detector from a recipe."""

import sys
import types
from typing import Any

from absl import flags

from tfdet.cli import app
from tfdet.cli import flags as common

COMMAND = app.Command(
    name="tfdet-train",
    purpose="Trains a detector, measures it while it trains, and resumes where it was killed.",
    example="""
        tfdet-train --hparams=efficientdet/nano_shapes --model_dir=runs/shapes
        tfdet-train --model_name=efficientdet-d0 --data=coco:train.json:train2017 \\
            --val_data=coco:val.json:val2017 --model_dir=runs/d0 --batch_size=16
    """,
    required=("model_dir",),
)
flags.DEFINE_string(
    "model_dir",
    None,
    "Folder for weights, logs and pictures; a run that was killed resumes from it.",
    flag_values=COMMAND.flags,
)
common.define_recipe(COMMAND, "train.learning_rate=0.01,model.fpn_fusion=softmax")
flags.DEFINE_string(
    "model_name",
    None,
    "Name of a model (tfdet-inspect lists them); by default the recipe's.",
    flag_values=COMMAND.flags,
)
common.define_data(COMMAND.flags, "Training data")
flags.DEFINE_string(
    "val_data", None, "Validation data, in the same form.", flag_values=COMMAND.flags
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
    "mode",
    "traineval",
    ["train", "eval", "traineval"],
    "train: without measuring; eval: measure the best weights of the folder; traineval: both.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "pretrained",
    None,
    "Weights to start from: a folder that tfdet-train or tfdet-pretrain wrote, coco, imagenet, a "
    "file of tfdet or of another project, or a name that tfdet-weights list shows.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_enum(
    "strategy",
    None,
    ["", "mirrored", "multi_worker"],
    "mirrored: all devices of this machine; multi_worker: the machines that TF_CONFIG lists; "
    "by default one device.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_float(
    "connect_seconds",
    None,
    "Seconds that --strategy=multi_worker waits for the other machines; by default 300.",
    flag_values=COMMAND.flags,
)

_RECIPE_KEYS = {
    "model_name": "model.name",
    "data": "data.train",
    "val_data": "data.val",
    "batch_size": "train.batch_size",
    "num_epochs": "train.num_epochs",
    "pretrained": "train.pretrained",
    "strategy": "train.strategy",
    "connect_seconds": "train.connect_seconds",
}


def main(options: types.SimpleNamespace) -> None:
    common.check_positive(options, "batch_size", "num_epochs", "connect_seconds")
    if options.mode == "eval":
        _measure(options)
        return
    if options.mode == "train" and "val_data" in options.given:
        raise app.UsageError("--mode=train measures nothing, so --val_data has no use")
    from tfdet import config
    from tfdet.training import distribution, trainer

    recipe = config.make_recipe(options.hparams, _changes(options))
    trainer.train(recipe, options.model_dir, options.mode == "traineval", options.typed)
    distribution.hush_end(recipe.train.strategy)


def _changes(options: types.SimpleNamespace) -> dict[str, Any]:
    return {
        key: getattr(options, name) for name, key in _RECIPE_KEYS.items() if name in options.given
    }


def _measure(options: types.SimpleNamespace) -> None:
    unused = options.given - {"mode", "model_dir", "val_data"}
    if unused:
        raise app.UsageError(f"--mode=eval takes no --{min(unused)}; it reads the folder's recipe")
    from tfdet.data import sources
    from tfdet.evaluation import coco
    from tfdet.training import trained

    recipe = trained.trained_recipe(options.model_dir)
    source = options.val_data or recipe.data.val
    if not source:
        raise app.UsageError("the recipe names no validation data; give --val_data")
    model = trained.load_trained(options.model_dir)
    print(f"measuring {trained.weights_file(options.model_dir)} on {source}", flush=True)
    metrics = coco.evaluate(model, sources.open_dataset(source), recipe.eval.batch_size)
    print(coco.format_table(metrics))


def run() -> None:
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
