import numpy as np
from PIL import Image

from tfdet.visualization import search_figures


def colors(path):
    picture = np.asarray(Image.open(path).convert("RGB"), np.int32)
    return {tuple(color) for color in np.unique(picture.reshape(-1, 3), axis=0)}


RED = (214, 39, 40)  # tab:red


def test_each_kind_of_action_has_its_color(tmp_path):
    best = [(0, 1.0), (1, 1.2)]
    few = {"base": [(0, 1.0)], "add": [(1, 1.2)], "prune": []}
    search_figures.draw_scores(tmp_path / "few.png", few, best)
    search_figures.draw_scores(tmp_path / "more.png", {**few, "prune": [(1, 1.1)]}, best)
    # Points are a little transparent: their color is mixed with white.
    mixed = tuple(round(0.8 * c + 0.2 * 255) for c in RED)
    near = [
        any(max(abs(a - b) for a, b in zip(mixed, color, strict=True)) <= 2 for color in found)
        for found in (colors(tmp_path / "few.png"), colors(tmp_path / "more.png"))
    ]
    assert near == [False, True]


def test_the_best_candidate_is_a_red_star(tmp_path):
    points = {"64x64": [(1.0, 0.3), (2.0, 0.5)]}
    front = [(1.0, 0.3), (2.0, 0.5)]
    search_figures.draw_front(
        tmp_path / "one.png", points, front, {"base": (1.0, 0.3)} | {"best": (2.0, 0.5)}
    )
    assert RED in colors(tmp_path / "one.png")
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]
