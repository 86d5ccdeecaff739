"""A whole search with the smallest networks: folders of a base and of teachers, and its recipe."""

import dataclasses
import pathlib

import keras

from tfdet import config, registry
from tfdet.backbones.encoding import resnet_encoding, super_encoding
from tfdet.nas.search_recipe import SearchRecipe, make_search_recipe
from tfdet.nas.subnets import ElasticConfig
from tfdet.training import trained
from tfdet.weights import stored

CLASSES = ["circle", "square", "triangle", "star", "cross"]
BASE = resnet_encoding((1, 1, 1, 1), stem=8, basic=True)
LARGER = resnet_encoding((2, 2, 2, 2), stem=16, basic=True)
SMALLER = resnet_encoding((1, 1, 1, 1), stem=4, basic=True)
# All subnets but the smallest are larger than the base.
SUPER = super_encoding((2, 2, 2, 2), stem=8)
ELASTIC = ElasticConfig(
    depths=((1, 2),) * 4,
    widths=((1.0, 1.5),) * 4,
    sizes=((64, 64), (48, 48)),
    recalibration_images=4,
)

HPARAMS = (
    "search.candidates=4,search.generation=2,search.frozen=1,search.steps=2,"
    "search.rank_weights=[2,1],search.batch_norm=plain,search.sizes=[[64,64],[48,64]],"
    "morphism.floor=4,train.batch_size=2,train.num_epochs=1,train.warmup_epochs=0.1,"
    "train.gamma_l1=1e-5,train.ema_decay=0,finetune.batch_size=2,finetune.num_epochs=2,"
    "finetune.ema_decay=0,eval.batch_size=4,eval.interval=2,eval.pictures=1"
)
POOL_HPARAMS = (
    "search.space=pool,search.candidates=3,search.generation=2,search.rank_weights=[2,1],"
    "search.batch_norm=plain,eval.batch_size=4"
)


def write_detector(folder, encoding, name="faster-rcnn-test", elastic=None, **changes):
    """A training folder of a detector with random weights, whose AP is above 0 by chance."""
    folder = pathlib.Path(folder)
    section = {"num_classes": 5, "class_names": CLASSES, "class_ids": [1, 2, 3, 4, 5]}
    if encoding is not None:
        section |= {"backbone": encoding.to_text()}
    if "rcnn" in name:
        section |= {"nms": {"score_threshold": 0.0}}
    section |= changes
    data = {"train": "shapes:train:4", "val": "shapes:val:8"}
    recipe = config.make_recipe(changes={"model": {"name": name, **section}, "data": data})
    if elastic is not None:
        train = dataclasses.replace(recipe.train, additions={"elastic": elastic}, batch_size=2)
        recipe = dataclasses.replace(recipe, train=train)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    keras.utils.set_random_seed(1)
    model = registry.create(name, **{k: v for k, v in recipe.model.items() if k != "name"})
    stored.save(model, folder / "last.weights.h5")
    return folder


def recipe(base, teacher="", hparams="") -> SearchRecipe:
    changes = {"base": str(base), "teacher": str(teacher)}
    return make_search_recipe([HPARAMS, *([hparams] if hparams else [])], changes)


def facts(table):
    """What two equal searches have in common."""
    return [dataclasses.replace(row, seconds=0.0) for row in table.values()]
