import pytest

from tfdet.errors import UserError
from tfdet.nas.score import Measured, ScoreConfig, score

# Operations (G) of the base at 1333x800, 1080x720, 800x600 and 512x512, and its AP.
BASES = {
    "r18": (36.0, (160.5, 120.9, 80.1, 50.1)),
    "r50": (39.5, (215.8, 161.3, 105.0, 63.7)),
    "r101": (41.4, (295.7, 219.4, 141.1, 83.1)),
    "x101": (42.9, (299.6, 222.3, 142.9, 84.1)),
}


def measured(ap, giga, parameters=40_000_000):
    return Measured(ap / 100, round(giga * 1e9), parameters)


@pytest.mark.parametrize(
    ("base", "found", "alpha", "expected"),
    [
        ((36.0, 160.5), (38.5, 117.3), 0.4, 1.082),
        ((39.5, 215.8), (42.3, 145.7), 0.4, 1.091),
        ((41.4, 295.7), (43.9, 153.9), 0.4, 1.108),
        ((42.9, 286.9), (45.7, 266.3), 0.1, 1.054),
    ],
)
def test_published_students_have_the_scores_of_the_sum(base, found, alpha, expected):
    value = score(measured(*found), measured(*base), ScoreConfig(alpha=alpha))
    assert value == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("form", ["sum", "product", "ratio", "mixed"])
def test_the_base_scores_one(form):
    base = measured(39.5, 215.8)
    assert score(base, base, ScoreConfig(form)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "alpha", "tolerated"),
    [
        ("r50", 0.4, (1.22, 2.08, 2.92)),
        ("r101", 0.4, (1.31, 2.25, 3.28)),
        ("r18", 0.4, (1.08, 1.81, 2.45)),
        ("x101", 0.1, (0.33, 0.50, 0.63)),
    ],
)
def test_the_sum_tolerates_so_much_ap_for_a_smaller_input(name, alpha, tolerated):
    ap, costs = BASES[name]
    config = ScoreConfig(alpha=alpha)
    for larger, smaller, loss in zip(costs, costs[1:], tolerated, strict=False):
        kept = score(measured(ap, larger), measured(ap, costs[0]), config)
        gained = score(measured(ap - loss, smaller), measured(ap, costs[0]), config)
        assert gained == pytest.approx(kept, abs=2e-4)


@pytest.mark.parametrize(
    ("name", "alpha", "shares"),
    [("r50", 0.4, (0.110, 0.158, 0.181)), ("x101", 0.1, (0.029, 0.043, 0.052))],
)
def test_the_ratio_tolerates_such_a_share_of_the_ap(name, alpha, shares):
    ap, costs = BASES[name]
    config = ScoreConfig("ratio", alpha=alpha)
    for larger, smaller, share in zip(costs, costs[1:], shares, strict=False):
        gained = score(measured(ap * (1 - share), smaller), measured(ap, larger), config)
        assert gained == pytest.approx(1, abs=1e-3)


def test_only_the_mixed_form_looks_at_parameters():
    base, smaller = measured(40, 200), measured(40, 200, 20_000_000)
    for form in ("sum", "product", "ratio"):
        assert score(smaller, base, ScoreConfig(form)) == pytest.approx(1.0)
    expected = 2 ** (0.2 * 0.4)
    assert score(smaller, base, ScoreConfig("mixed")) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": -0.1}, "score.alpha must be at least 0"),
        ({"beta": 1.5}, r"score.beta must be in"),
    ],
)
def test_constants_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ScoreConfig(**changes)
