import dataclasses
import math

import numpy as np
import pytest

from tfdet import config
from tfdet.data import sources
from tfdet.data.survey import survey
from tfdet.training import suggestion
from tfdet.weights import cache, catalog


@pytest.fixture(autouse=True)
def _no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))


def _downloaded(name: str) -> None:
    place = cache.place_of(catalog.named(name))
    place.parent.mkdir(parents=True)
    place.write_text("")


def _values(found: suggestion.Suggestion) -> dict:
    return {one.key: one.value for one in found.choices}


def _facts(images=50, classes=5, objects=8, side=40.0, size=(480, 640)):
    """A survey of equal images with objects of every class in turn."""
    count = images * objects
    labels = np.arange(count) % classes
    per_class = np.bincount(labels, minlength=classes)
    return dataclasses.replace(
        survey(sources.read_source("shapes:val:4")),
        class_names=tuple(map(str, range(classes))),
        objects_of_class=per_class,
        images_of_class=np.minimum(per_class, images),
        objects_per_image=np.full(images, objects),
        image_sizes=np.tile(size, (images, 1)),
        image_of_object=np.repeat(np.arange(images), objects),
        sides=np.full((count, 2), side),
        labels=labels,
    )


@pytest.fixture(scope="module")
def shapes() -> suggestion.Suggestion:
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


def test_a_budget_makes_the_image_smaller(shapes):
    less = _values(suggestion.suggest("shapes:train:60", budget_madds=0.1e9))
    full = _values(shapes)
    assert math.prod(less["model.image_size"]) < math.prod(full["model.image_size"])
    cost = suggestion._cost("fcos-nano", 5, tuple(less["model.image_size"]))
    assert cost <= 0.1e9
    (reason,) = (x.reason for x in shapes.choices if x.key == "model.image_size")
    assert "without" not in reason or "0.7 G" in reason


def test_a_time_is_kept_as_measured(monkeypatch):
    # Milliseconds in proportion to the pixels: the sizes follow.
    def took(model, canvases):
        assert canvases[0].shape[1:3] == tuple(model.image_size)
        return math.prod(model.image_size) / 1000

    monkeypatch.setattr("tfdet.training.latency.milliseconds", took)
    said = []
    found = suggestion.suggest("shapes:train:20", budget_ms=30, say=said.append)
    assert math.prod(_values(found)["model.image_size"]) <= 30_000
    assert any("ms here" in sentence for sentence in said)
    assert "ms measured here" in found.lines()[2]


@pytest.mark.parametrize(
    ("weights", "facts", "limit", "name", "kind"),
    [
        (None, {}, 0.7e9, "fcos-nano", ""),
        ("efficientnet-lite0", {}, 0.7e9, "efficientdet-lite0", "imagenet"),  # 80 of a class
        ("effdet-lite0", {}, 2e9, "efficientdet-lite0", "coco"),
        ("efficientnet-lite0", {"images": 500}, 0.7e9, "fcos-nano", ""),  # enough objects
        ("efficientnet-lite0", {"images": 500}, 9e9, "efficientdet-lite0", "imagenet"),
        ("efficientnet-lite2", {"images": 500}, 0.7e9, "fcos-nano", ""),  # too large
    ],
)
def test_weights_are_used_where_they_are_here_and_worth_it(weights, facts, limit, name, kind):
    if weights:
        _downloaded(weights)
    model = suggestion._choose_model(_facts(**facts), limit, None, None, print)
    assert (model.name, model.weights) == (name, kind)
    assert model.madds <= limit and model.reason


def test_weights_that_would_help_are_named_with_the_command():
    facts = _facts()
    model = suggestion._choose_model(facts, 0.7e9, None, None, print)
    notes = suggestion._notes(facts, model, "val", 0.7e9)
    assert any("tfdet-weights fetch" in sentence for sentence in notes)


def test_small_objects_of_one_class_count_among_many_large_ones():
    facts = _facts(images=500, classes=20, side=100.0)
    sides = np.where(facts.labels[:, None] == 3, 30.0, facts.sides)
    assert suggestion._small_side(facts) == 100
    assert suggestion._small_side(dataclasses.replace(facts, sides=sides)) == 30


@pytest.mark.parametrize(
    ("sizes", "scale", "canvas"),
    [
        ([(480, 640)], 0.6, (288, 384)),
        ([(480, 640), (640, 480)], 0.6, (384, 384)),
        ([(30, 20)], 1.0, (128, 96)),
        ([(3000, 4000)], 0.1, (288, 416)),
    ],
)
def test_the_canvas_has_the_shape_of_the_images(sizes, scale, canvas):
    facts = dataclasses.replace(_facts(images=len(sizes)), image_sizes=np.array(sizes))
    assert suggestion._canvas(facts, scale) == canvas


@pytest.mark.parametrize("images", [1, 3, 80, 205, 292, 2000, 118_000])
@pytest.mark.parametrize("weights", ["", "imagenet"])
def test_the_schedule_fits_any_number_of_images(images, weights):
    facts = dataclasses.replace(_facts(), image_sizes=np.tile((480, 640), (images, 1)))
    model = suggestion._Model("efficientdet-lite0", (288, 384), 1e9, weights, "", 0.6, 5)
    values = {x.key: x.value for x in suggestion._training(facts, model, model.canvas)}
    changes = {key: value for key, value in values.items() if key.startswith(("train", "eval"))}
    recipe = config.make_recipe((), {**changes, "train.pretrained": ""})
    assert 1 <= recipe.train.batch_size <= images
    assert 12 <= recipe.train.num_epochs <= 300


def test_validation_data_are_found():
    assert suggestion._data("shapes:train") == ("shapes:train", "shapes:val")
    assert suggestion._data("shapes") == ("shapes:train", "shapes:val")
    assert suggestion._data("shapes:val:8") == ("shapes:val:8", None)


def test_small_objects_and_missing_validation_data_are_told():
    facts = _facts(side=6.0, images=500)
    model = suggestion._choose_model(facts, 0.2e9, None, None, print)
    notes = suggestion._notes(facts, model, None, 0.2e9)
    assert any("fewer than 8 pixels" in sentence for sentence in notes)
    assert any("--val_data" in sentence for sentence in notes)
