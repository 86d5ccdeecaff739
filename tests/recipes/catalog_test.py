import os
import pathlib
import subprocess
import sys

import pytest

from tfdet import config
from tfdet.cli import pretrain, search, train
from tfdet.errors import UserError
from tfdet.recipes import catalog


def test_each_recipe_is_listed_with_its_title_by_the_command_that_it_is_for():
    files = pathlib.Path(catalog.__file__).parent.glob("*/*.yaml")
    assert len(list(files)) == len(catalog.entries())
    for entry in catalog.entries():
        assert 10 < len(entry.title) < 200 and not entry.title.endswith("."), entry
    commands = {entry.command for entry in catalog.entries()}
    assert commands == {"tfdet-train", "tfdet-pretrain", "tfdet-search"}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (train, "efficientdet/nano_shapes"),
        (pretrain, "caddet/pretrain_imagenet"),
        (search, "joint_detnas/search_shapes"),
    ],
)
def test_commands_list_their_recipes_and_do_nothing_else(module, name, capsys):
    assert module.COMMAND.run(module.main, ["--list_recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(catalog.entries(module.COMMAND.name))
    assert any(line.startswith(f"{name} ") for line in lines)


def test_a_recipe_is_found_by_name_from_any_folder(tmp_path):
    program = (
        "from tfdet import config\n"
        "recipe = config.make_recipe(['efficientdet/nano_shapes', 'train.seed=3'])\n"
        "assert (recipe.train.seed, recipe.data.train) == (3, 'shapes:train')\n"
    )
    source = pathlib.Path(catalog.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)


def test_a_file_of_the_user_is_taken_before_a_recipe_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "detr").mkdir()
    (tmp_path / "detr" / "nano_shapes.yaml").write_text("train: {seed: 7}\n")
    monkeypatch.chdir(tmp_path)
    assert config.make_recipe(["detr/nano_shapes.yaml"]).train.seed == 7
    assert config.make_recipe(["detr/nano_shapes"]).train.seed == 0


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("efficientdet/nano_shape", "'efficientdet/nano_shapes'"),
        ("effdet/d0_coco", "'efficientdet/d0_coco'"),
        ("configs/detr/r50_coco.yaml", "'detr/r50_coco'"),
        ("detr/r50_coco.yml", "'detr/r50_coco'"),
        ("d7x_coco", "'efficientdet/d7x_coco'"),
        ("nothing/like_it", "names begin with caddet/, detr/, "),
    ],
)
def test_a_wrong_name_proposes_near_ones(typed, offered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        config.make_recipe([typed])
    assert offered in str(caught.value)


def test_eval_says_that_recipes_are_for_training(capsys):
    from tfdet.cli import eval as command

    argv = ["--model_name=fcos-nano", "--data=shapes:val", "--hparams=fcos/nano_shapes"]
    assert command.COMMAND.run(command.main, argv) == 2
    assert "recipes are for tfdet-train" in capsys.readouterr().err
