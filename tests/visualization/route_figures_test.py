"""Pictures of routes: what is open can be seen, and nothing else."""

import numpy as np
import pytest

from tfdet.backbones.grid import SupernetConfig
from tfdet.visualization import route_figures

GRID = SupernetConfig(layers=4, channels=(8, 10, 12, 14), stem_filters=(4, 6, 8))


def amount(picture, path):
    """How many pixels have about the colour of a kind of path; shrinking blurs it."""
    distance = np.abs(picture.astype(int) - route_figures._COLOURS[path]).max(axis=-1)
    return int((distance < 20).sum())


def gates(**values):
    """[gates] with one value per kind of path."""
    kinds = [path for spec in GRID.nodes for path in spec.paths]
    return np.array([values.get(kind, 0.0) for kind in kinds])


@pytest.mark.parametrize("path", ["keep", "up", "down"])
def test_a_path_is_as_thick_as_its_gate_is_large(path):
    legend = amount(route_figures.draw_route(GRID, gates()), path)
    others = {"down": 1e-3} if path == "up" else {}  # else nothing reaches the coarse scales
    amounts = [
        amount(route_figures.draw_route(GRID, gates(**{**others, path: g})), path)
        for g in (0.05, 0.3, 0.6, 0.99)
    ]
    assert legend > 0
    assert amounts == sorted(amounts)
    assert amounts[0] > legend
    assert amounts[-1] - legend > 4 * (amounts[0] - legend)


def test_only_open_kinds_are_coloured():
    legend = route_figures.draw_route(GRID, gates())
    picture = route_figures.draw_route(GRID, gates(keep=0.9))
    for path in ("up", "down"):
        assert amount(picture, path) == amount(legend, path)
    assert picture.shape == legend.shape and picture.shape[0] == 360
    assert route_figures.draw_route(GRID, gates(), 90).shape[0] == 90


def test_what_nothing_is_sent_to_is_not_reached():
    is_open = GRID.route("floor")
    reached = route_figures._reached(GRID, is_open)
    assert [spec.scale for spec, here in zip(GRID.nodes, reached, strict=True) if here] == [0] * 5
    assert all(route_figures._reached(GRID, GRID.route("cheapest")))
    assert all(route_figures._reached(GRID, GRID.route("all_open")))


@pytest.mark.parametrize("size", [(40, 60), (500, 400), (900, 1400)])
def test_a_route_stands_beside_a_picture_of_any_size(size):
    picture = np.full((*size, 3), 200, np.uint8)
    both = route_figures.route_beside(picture, GRID, gates(down=0.5), 3e6)
    assert both.shape[0] >= size[0] and both.shape[1] > size[1] + 200
    assert amount(both, "down") > 100


@pytest.mark.parametrize("images", [1, 30])
def test_the_figure_of_a_data_set_has_every_colour(images):
    rng = np.random.default_rng(0)
    routes = np.maximum(rng.normal(0.2, 0.4, (images, GRID.num_gates)), 0)
    traits = {"objects": rng.random(images), "difficulty": rng.random(images)}
    figure = route_figures.diversity(GRID, routes, 1e6 * rng.random(images), traits, "a title")
    assert figure.shape == (800, 1200, 3) and figure.dtype == np.uint8
    for path in ("keep", "up", "down"):
        assert amount(figure, path) > 100
