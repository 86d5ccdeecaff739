"""Every recipe that is shipped can be read, and says how it is used."""

import dataclasses
import pathlib

import pytest

from tfdet import config, registry
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.training import pretrain_recipe

RECIPE_FILES = pathlib.Path(__file__).parents[2] / "tfdet" / "recipes"
PRETRAINING = RECIPE_FILES / "caddet" / "pretrain_imagenet.yaml"
SEARCHES = sorted(RECIPE_FILES.rglob("search_*.yaml"))
POOL_SEARCHES = sorted(RECIPE_FILES.rglob("pool_search_*.yaml"))
RECIPES = sorted(set(RECIPE_FILES.rglob("*.yaml")) - {PRETRAINING, *SEARCHES, *POOL_SEARCHES})


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipe_is_valid_and_headed_by_its_command(path):
    recipe = config.load_recipe(path)
    head = path.read_text().partition("model:")[0]
    name = path.relative_to(RECIPE_FILES).with_suffix("").as_posix()
    assert f"tfdet-train --hparams={name} " in head
    assert "--model_dir=" in head
    assert recipe.data.train or "--data=" in head
    assert recipe.data.val or "--val_data=" in head


@pytest.mark.parametrize("path", SEARCHES, ids=[path.stem for path in SEARCHES])
def test_search_is_valid_and_headed_by_its_command(path):
    recipe = config.make_recipe([str(path)], {"base": "runs/a", "teacher": "runs/b"}, SearchRecipe)
    name = path.relative_to(RECIPE_FILES).with_suffix("").as_posix()
    assert f"tfdet-search --hparams={name} " in path.read_text()
    assert recipe.search.inherit and recipe.search.distil


@pytest.mark.parametrize("path", POOL_SEARCHES, ids=[path.stem for path in POOL_SEARCHES])
def test_pool_search_is_valid_and_headed_by_its_command(path):
    recipe = config.make_recipe([str(path)], {"base": "runs/pool"}, SearchRecipe)
    name = path.relative_to(RECIPE_FILES).with_suffix("").as_posix()
    assert f"tfdet-search --hparams={name} --base=" in path.read_text()
    assert recipe.search.space == "pool"
    assert recipe.search.candidates == (200 if "coco" in path.stem else 40)


def test_coco_searches_keep_the_published_settings():
    found = {path.stem: path for path in SEARCHES if path.stem.endswith("_coco")}
    assert len(found) == 4
    for stem, path in found.items():
        recipe = config.make_recipe([str(path)], {"teacher": "runs/pool"}, SearchRecipe)
        search, train, tune = recipe.search, recipe.train, recipe.finetune
        assert (search.candidates, search.frozen, len(search.rank_weights)) == (100, 5, 5), stem
        assert (train.num_epochs, tune.num_epochs) == (3, 16), stem
        for settings in (train, tune):
            assert (settings.learning_rate, settings.learning_rate_batch) == (0.01, 0), stem
            assert (settings.schedule, settings.batch_size) == ("half_cosine", 4), stem
        assert train.additions["gamma_l1"] == 1e-5
        assert (recipe.score.alpha, recipe.score.beta) == (0.1 if "x101" in stem else 0.4, 0.8)


def coco_recipes(*folders):
    return {
        f"{path.parent.name}/{path.stem}": config.load_recipe(path)
        for path in RECIPES
        if "_coco" in path.stem and path.parent.name in folders and "_tiny" not in path.stem
    }


def test_coco_recipes_keep_the_published_schedule():
    recipes = coco_recipes("efficientdet")
    names = {recipe.model["name"].removeprefix("efficientdet-") for recipe in recipes.values()}
    published = {f"d{i}" for i in range(8)} | {f"lite{i}" for i in range(5)} | {"d7x", "lite3x"}
    assert names == published
    for stem, recipe in recipes.items():
        long = stem in ("efficientdet/d7_coco", "efficientdet/d7x_coco")
        epochs, wave = 600 if long else 300, "efficientdet_cosine"
        wanted = config.TrainConfig(batch_size=128, num_epochs=epochs, schedule=wave)
        assert recipe.train == wanted, stem


def test_detectron_recipes_keep_the_published_schedule():
    recipes = coco_recipes("fcos", "packdet", "retinanet")
    assert len(recipes) == 14
    for stem, recipe in recipes.items():
        train, longer = recipe.train, 2 if "_2x_" in stem else 1
        steps = 117_266 / train.batch_size
        assert train.num_epochs * steps == pytest.approx(longer * 90_000, rel=0.03), stem
        drops = [epoch * steps for epoch in train.decay_epochs]
        assert drops == pytest.approx([longer * 60_000, longer * 80_000], rel=0.03), stem
        assert train.warmup_epochs * steps == pytest.approx(500, rel=0.01), stem
        assert (train.warmup, train.ema_decay) == ("constant", 0.0)
        assert train.rates == (("(bias|beta)$", 2.0),)
        assert train.learning_rate == pytest.approx(3 * train.warmup_init, rel=0.01)
        assert recipe.model_config().weight_decay == 1e-4


def test_two_stage_recipes_keep_the_published_schedule():
    recipes = coco_recipes("faster_rcnn", "mask_rcnn")
    assert {stem.split("/")[1].removesuffix("_coco") for stem in recipes} == {
        *("r50_1x", "r101_1x", "swin_t_3x", "swin_s_3x"),
    }
    for stem, recipe in recipes.items():
        train, steps = recipe.train, 117_266 / 16
        assert train.batch_size == train.learning_rate_batch == 16, stem
        assert train.warmup_epochs * steps == pytest.approx(500, rel=0.01), stem
        assert train.warmup_init == pytest.approx(0.001 * train.learning_rate)
        assert (train.schedule, train.clip_gradients_norm, train.ema_decay) == ("stepwise", 0, 0)
        if "swin" in stem:
            assert (train.optimizer, train.weight_decay) == ("adamw", 0.05)
            assert train.learning_rate == 1e-4
            assert (train.num_epochs, train.decay_epochs) == (36, (27, 33))
            assert recipe.model_config().weight_decay == 0  # it is the optimizer's
        else:
            assert (train.optimizer, train.learning_rate, train.momentum) == ("sgd", 0.02, 0.9)
            assert (train.num_epochs, train.decay_epochs) == (12, (8, 11))
            assert recipe.model_config().weight_decay == 1e-4


def test_yolo_recipes_keep_the_published_schedule():
    recipes = coco_recipes("yolov7", "dynamicdet")
    recipes = {stem: recipe for stem, recipe in recipes.items() if "yolov7" in stem}
    assert len(recipes) == 9
    for stem, recipe in recipes.items():
        train, model, augment = recipe.train, recipe.model_config(), recipe.data.augment
        assert (train.accumulate_batch, train.momentum, train.warmup_steps) == (64, 0.937, 1000)
        assert (augment.geometry, augment.scale, augment.translate) == ("affine", 0.9, 0.2)
        assert model.weight_decay == 0  # it is the optimizer's
        if "router" in stem:
            assert (train.optimizer, train.weight_decay, train.num_epochs) == ("adamw", 5e-3, 2)
            assert (train.learning_rate, train.schedule, augment.mosaic) == (1e-5, "constant", 0)
            continue
        assert (train.optimizer, train.weight_decay, train.num_epochs) == ("nesterov", 5e-4, 300)
        assert (augment.mosaic, augment.mosaic_nine, augment.mixup) == (1.0, 0.2, 0.15)
        assert train.last_share == (0.2 if "w6" in stem else 0.1)
        assert stem != "yolov7/w6_coco" or (model.auxiliary_heads and model.loss.top_k == 20)


def test_recipes_of_two_stage_cascades_say_what_the_paper_leaves_open():
    recipes = {s: r for s, r in coco_recipes("dynamicdet").items() if "_rcnn_" in s}
    assert len(recipes) == 4
    for stem, recipe in recipes.items():
        train, model = recipe.train, recipe.model_config()
        assert model.shared_heads and model.first_weight == 1.0 and model.router_reduction == 4
        if "router" in stem:
            assert (model.step, train.num_epochs, train.accumulate_batch) == ("router", 2, 64)
            assert (train.learning_rate, train.weight_decay, model.weight_decay) == (1e-5, 5e-3, 0)
        elif "faster" in stem:
            assert (train.num_epochs, train.learning_rate, model.weight_decay) == (12, 0.02, 1e-4)
        else:
            assert (train.num_epochs, train.learning_rate, train.weight_decay) == (36, 1e-4, 0.05)


def test_pretraining_keeps_the_published_schedule():
    recipe = config.load_recipe(PRETRAINING, pretrain_recipe.PretrainRecipe)
    train = recipe.train
    assert (train.optimizer, train.batch_size, train.num_epochs) == ("sgd", 256, 120)
    assert (train.learning_rate, train.learning_rate_batch) == (0.2, 256)
    assert recipe.model_config().supernet == registry.config("caddet-fcos").supernet
    name = PRETRAINING.relative_to(RECIPE_FILES).with_suffix("").as_posix()
    assert f"tfdet-pretrain --hparams={name} " in PRETRAINING.read_text()


def test_the_recipes_of_the_study_differ_in_their_routes_only():
    recipes = [
        config.load_recipe(RECIPE_FILES / "caddet" / f"nano_shapes{end}.yaml")
        for end in ("", "_fixed", "_no_router")
    ]
    scale_aware, fixed, none = (recipe.model_config() for recipe in recipes)
    assert recipes[0].train == recipes[1].train == recipes[2].train
    assert recipes[0].data == recipes[1].data == recipes[2].data
    assert dataclasses.replace(fixed, routing_loss=scale_aware.routing_loss) == scale_aware
    closed = dataclasses.replace(scale_aware.supernet, routers=False)
    assert none.supernet == closed
    # The losses of routes rest for the paper's share of the epochs, 1 of 12.
    assert recipes[0].train.num_epochs == 12 * scale_aware.routing_loss.free_epochs


def test_recipes_of_the_teacher_pool_keep_the_published_phases():
    recipes = coco_recipes("joint_detnas")
    found = []
    for phase in range(3):
        recipe = recipes[f"joint_detnas/pool_{phase}_coco"]
        model, train = recipe.model_config(), recipe.train
        space = train.additions["elastic"].space(model.backbone, model.image_size)
        found.append((train.num_epochs, train.learning_rate, space.count))
        assert train.batch_size == train.learning_rate_batch == 64
        assert [round(epoch / train.num_epochs, 2) for epoch in train.decay_epochs] == [0.67, 0.92]
        assert bool(train.additions["distill"].teacher) == (phase > 0)
        assert model.batch_norm == "synchronized"
    assert found == [(48, 0.12, 4), (24, 0.04, 192 * 4), (36, 0.04, 85_536)]
