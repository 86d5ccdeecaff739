"""Every recipe that is shipped can be read, and says how it is used."""

import pathlib

import pytest

from tfdet import config

RECIPES = sorted((pathlib.Path(__file__).parents[1] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipe_is_valid_and_headed_by_its_command(path):
    recipe = config.load_recipe(path)
    head = path.read_text().partition("model:")[0]
    name = path.relative_to(path.parents[2]).as_posix()
    assert f"tfdet-train --hparams={name} " in head
    assert "--model_dir=" in head
    assert recipe.data.train or "--data=" in head
    assert recipe.data.val or "--val_data=" in head


def test_coco_recipes_keep_the_published_schedule():
    recipes = {path.stem: config.load_recipe(path) for path in RECIPES if "_coco" in path.stem}
    names = {recipe.model["name"].removeprefix("efficientdet-") for recipe in recipes.values()}
    published = {f"d{i}" for i in range(8)} | {f"lite{i}" for i in range(5)} | {"d7x", "lite3x"}
    assert names == published
    for stem, recipe in recipes.items():
        long = stem in ("d7_coco", "d7x_coco")
        wanted = config.TrainConfig(batch_size=128, num_epochs=600 if long else 300)
        assert recipe.train == wanted, stem
