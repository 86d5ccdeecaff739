import dataclasses
import math

import numpy as np
import pytest

from tfdet import cache_folder
from tfdet.data import sources
from tfdet.training import suggested_model
from tfdet.weights import cache, catalog


def _downloaded(name: str) -> None:
    place = cache.place_of(catalog.named(name))
    place.parent.mkdir(parents=True)
    place.write_text("")


@pytest.mark.parametrize(
    ("weights", "facts", "limit", "name", "kind"),
    [
        (None, {}, 0.7e9, "fcos-nano", ""),
        ("efficientnet-lite0", {}, 0.7e9, "efficientdet-lite0", "imagenet"),  # 80 of a class
        ("effdet-lite0", {}, 2e9, "efficientdet-lite0", "coco"),
        ("efficientnet-lite0", {"images": 500}, 0.7e9, "fcos-nano", ""),  # enough objects
        ("efficientnet-lite0", {"images": 500}, 9e9, "efficientdet-lite0", "imagenet"),
        ("efficientnet-lite2", {"images": 500}, 0.7e9, "fcos-nano", ""),  # too large
        ("efficientnet-lite0", {}, 0.1e9, "efficientdet-nano", ""),  # too large at any size
    ],
)
def test_weights_are_used_where_they_are_here_and_worth_it(
    tmp_path, monkeypatch, equal_images, weights, facts, limit, name, kind
):
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))
    if weights:
        _downloaded(weights)
    model = suggested_model.choose(equal_images(**facts), limit, None, None, print)
    assert (model.name, model.weights) == (name, kind)
    assert model.madds <= limit and model.reason


def test_a_budget_makes_the_image_smaller(equal_images):
    facts = equal_images(images=500)
    full, less = (
        suggested_model.fitted(facts, "fcos-nano", "", limit) for limit in (math.inf, 0.1e9)
    )
    assert full.canvas == (288, 384) and full.madds > 0.1e9 >= less.madds
    assert less.canvas[0] < 288 and less.canvas[1] < 384


@pytest.mark.parametrize(
    ("facts", "limit", "name"),
    [
        ({}, 0.6e9, "fcos-nano"),  # small objects have 24 pixels
        ({}, 0.35e9, "fcos-nano"),  # 17
        ({}, 0.2e9, "efficientdet-nano"),  # 13, and 24 in the other
        ({"side": 12.0, "size": (128, 160)}, 0.2e9, "fcos-nano"),  # no more pixels to be had
        ({"side": 200.0}, 0.03e9, "efficientdet-nano"),  # the other is above the budget at any size
    ],
)
def test_small_objects_that_a_budget_makes_too_small_get_the_model_with_more_pixels(
    tmp_path, monkeypatch, equal_images, facts, limit, name
):
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))
    model = suggested_model.choose(equal_images(images=500, **facts), limit, None, None, print)
    assert model.name == name and model.madds <= limit and model.reason


@pytest.mark.parametrize(("slowness", "name"), [(1.0, "efficientdet-nano"), (3.0, "fcos-nano")])
def test_more_pixels_must_fit_the_measured_time_too(
    tmp_path, monkeypatch, equal_images, slowness, name
):
    # Milliseconds in proportion to the multiply-adds, and `slowness` times as many in the other.
    def took(model, canvases):
        is_other = model.name.startswith("efficientdet")
        return math.prod(model.image_size) / 1000 * (slowness / 3 if is_other else 1.0)

    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))
    monkeypatch.setattr("tfdet.training.latency.milliseconds", took)
    dataset = sources.read_source("shapes:train:4")
    model = suggested_model.choose(equal_images(images=500), 1.0, 40.0, dataset, print)
    assert model.name == name and model.ms <= 40


def test_a_time_is_kept_as_measured(equal_images, monkeypatch):
    # Milliseconds in proportion to the pixels: the sizes follow.
    def took(model, canvases):
        assert canvases[0].shape[1:3] == tuple(model.image_size)
        return math.prod(model.image_size) / 1000

    monkeypatch.setattr("tfdet.training.latency.milliseconds", took)
    said = []
    dataset = sources.read_source("shapes:train:4")
    model = suggested_model.choose(equal_images(images=500), 1.0, 60.0, dataset, said.append)
    assert math.prod(model.canvas) <= 60_000 and model.ms == math.prod(model.canvas) / 1000
    assert len(said) >= 2 and all("ms here" in sentence for sentence in said)


def test_small_objects_of_one_class_count_among_many_large_ones(equal_images):
    facts = equal_images(images=500, classes=20, side=100.0)
    sides = np.where(facts.labels[:, None] == 3, 30.0, facts.sides)
    assert suggested_model.small_side(facts) == 100
    assert suggested_model.small_side(dataclasses.replace(facts, sides=sides)) == 30


@pytest.mark.parametrize(
    ("sizes", "scale", "canvas"),
    [
        ([(480, 640)], 0.6, (288, 384)),
        ([(480, 640), (640, 480)], 0.6, (384, 384)),
        ([(30, 20)], 1.0, (128, 96)),
        ([(3000, 4000)], 0.1, (288, 384)),
    ],
)
def test_the_canvas_has_the_shape_of_the_images(sizes, scale, canvas, equal_images):
    facts = dataclasses.replace(equal_images(images=len(sizes)), image_sizes=np.array(sizes))
    assert suggested_model._canvas(facts, scale) == canvas
