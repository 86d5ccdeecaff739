"""Actions as records: drawn, done, and done again the same."""

import numpy as np
import pytest

from tfdet import records
from tfdet.backbones.encoding import encoding_of_widths
from tfdet.errors import UserError
from tfdet.nas.morphism import (
    KINDS,
    Action,
    MorphismConfig,
    apply_action,
    draw_action,
    feasible_actions,
)
from tfdet.nas.weights import rebuild, take_weights

ENCODING = encoding_of_widths(
    [[(6, 5, 8)] * 2, [(6, 7, 12)] * 3, [(6, 6, 10), (5, 4, 10)], [(5, 6, 10), (6, 5, 14)]], stem=6
)
CONFIG = MorphismConfig(floor=3, backward=True)


def test_a_long_lineage_is_always_a_network_whose_weights_fit(lively, maps):
    """Every child fits by name and shape; the last one runs."""
    model = lively(ENCODING)
    random = np.random.default_rng(5)
    encoding, weights, kinds = ENCODING, take_weights(model), set()
    for _ in range(25):
        action = draw_action(encoding, CONFIG, random)
        again = records.from_dict(Action, records.to_dict(action))
        before = encoding
        encoding, weights = apply_action(before, weights, again, CONFIG)
        assert encoding != before
        kinds.add(action.kind)
    assert kinds == set(KINDS)
    assert np.isfinite(maps(rebuild(model, encoding, weights))["P5"]).all()


def test_kinds_are_equally_likely_and_the_same_seed_draws_the_same():
    def draws(seed):
        random = np.random.default_rng(seed)
        return [draw_action(ENCODING, CONFIG, random) for _ in range(400)]

    actions = draws(1)
    assert actions == draws(1) != draws(2)
    counts = [sum(a.kind == kind for a in actions) for kind in KINDS]
    assert min(counts) > 70
    assert {a.stage for a in actions if a.kind == "add_layer"} == {1, 2, 3, 4}
    assert {a.backward for a in actions if a.kind == "rearrange"} == {True, False}


def test_what_cannot_be_done_is_not_drawn():
    single = encoding_of_widths([[(6, 6)]] * 4, stem=6)
    feasible = feasible_actions(single, MorphismConfig())
    assert set(feasible) == {"add_layer"}
    assert "prune_channels" in feasible_actions(single, MorphismConfig(floor=5))
    config = MorphismConfig(kinds=("prune_channels", "rearrange"))
    assert feasible_actions(single, config) == {}
    with pytest.raises(UserError, match="none of the actions prune_channels, rearrange"):
        draw_action(single, config, np.random.default_rng(0))
    for layers, is_feasible in ((4, True), (5, False)):
        config = MorphismConfig(kinds=("prune_layers",), layers=layers)
        assert bool(feasible_actions(ENCODING, config)) == is_feasible


def test_actions_read_well():
    assert str(Action("add_layer", 3)) == "add_layer 3"
    assert str(Action("rearrange", 2, seed=7)) == "rearrange 2->3"
    assert str(Action("rearrange", 2, backward=True)) == "rearrange 3->2"
    assert str(Action("prune_channels")) == "prune_channels"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": ()}, "kinds must name an action"),
        ({"share": 1.5}, "share must be in"),
        ({"floor": 0}, "floor must be at least 1"),
        ({"layers": 0}, "layers must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        MorphismConfig(**changes)
