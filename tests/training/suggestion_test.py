import dataclasses

import numpy as np
import pytest

from tfdet import config
from tfdet.data import sources
from tfdet.training import suggested_model, suggestion

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture(scope="module")
def shapes(no_weights) -> suggestion.Suggestion:
    return suggestion.suggest("shapes:train:60")


def test_a_suggestion_is_a_recipe_with_a_reason_for_each_value(shapes, tmp_path):
    text = shapes.recipe("tfdet-train --hparams=recipe.yaml")
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = config.make_recipe([str(tmp_path / "recipe.yaml")])
    assert recipe.model["name"] == "fcos-nano" and recipe.data.train == "shapes:train:60"
    assert recipe.data.val == "shapes:val:60" and recipe.train.pretrained == ""
    assert "#   tfdet-train --hparams=recipe.yaml" in text.splitlines()
    for line, one in zip(shapes.lines()[1:], shapes.choices, strict=False):
        assert one.reason and one.key in line and one.reason in line
    assert all(len(line) <= 100 for line in text.splitlines() if line.lstrip().startswith("#"))


def test_weights_that_would_help_are_named_with_the_command(equal_images):
    facts = equal_images()
    model = suggested_model.choose(facts, 0.7e9, None, None, print)
    notes = suggestion._notes(facts, model, "val", 0.7e9)
    assert any("tfdet-weights fetch" in sentence for sentence in notes)


@pytest.mark.parametrize("images", [1, 3, 80, 205, 292, 2000, 118_000])
@pytest.mark.parametrize("weights", ["", "imagenet"])
def test_the_schedule_fits_any_number_of_images(images, weights, equal_images):
    facts = dataclasses.replace(equal_images(), image_sizes=np.tile((480, 640), (images, 1)))
    model = suggested_model.Candidate("efficientdet-lite0", (288, 384), 1e9, weights, "", 0.6, 5)
    values = {x.key: x.value for x in suggestion._training(facts, model, model.canvas)}
    changes = {key: value for key, value in values.items() if key.startswith(("train", "eval"))}
    recipe = config.make_recipe((), {**changes, "train.pretrained": ""})
    assert 1 <= recipe.train.batch_size <= images
    assert 12 <= recipe.train.num_epochs <= 300


def test_weights_of_a_whole_detector_keep_their_anchors():
    dataset = sources.read_source("shapes:train:4")
    model = suggested_model.Candidate("efficientdet-test", (64, 64), 1e9, "coco", "", 0.25, 5)
    assert suggestion._levels(model, dataset) == []
    model = dataclasses.replace(model, weights="imagenet")
    (choice,) = suggestion._levels(model, dataset)
    assert choice.key == "model.anchor_scale" and choice.value < 4  # shapes of 10 pixels


def test_validation_data_are_found():
    assert suggestion._data("shapes:train") == ("shapes:train", "shapes:val")
    assert suggestion._data("shapes") == ("shapes:train", "shapes:val")
    assert suggestion._data("shapes:val:8") == ("shapes:val:8", None)


def test_small_objects_and_missing_validation_data_are_told(equal_images):
    facts = equal_images(side=6.0, images=500)
    model = suggested_model.choose(facts, 0.2e9, None, None, print)
    notes = suggestion._notes(facts, model, None, 0.2e9)
    assert any("fewer than 8 pixels" in sentence for sentence in notes)
    assert any("--val_data" in sentence for sentence in notes)


@pytest.mark.parametrize(
    ("spec", "folder"),
    [
        ("shapes:train", "runs/shapes"),
        ("voc:Cells:train", "runs/cells"),
        ("yolo:data.yaml:train", "runs/yolo"),
        ("coco:tiny/annotations/instances_train2017.json:tiny/train2017", "runs/tiny"),
    ],
)
def test_the_folder_of_the_training_is_named_after_the_data_and_not_its_split(spec, folder):
    assert suggestion.model_dir_of(spec) == folder
