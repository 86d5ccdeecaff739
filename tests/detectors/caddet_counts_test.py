"""Counts of CADDet and of the detectors it is compared with, from the built layers."""

import keras
import numpy as np
import pytest

from tfdet import profiling, registry
from tfdet.detectors.grid_cost import GridCost
from tfdet.necks.fpn import FPN

# Millions at 640x800 and at 800x1200: always, the cheapest route to all scales, everything.
ROUTES = {
    "floor": (482.0, 907.5),
    "cheapest": (744.5, 1402.3),
    "all_open": (6306.7, 11902.1),
}
SIZES = (640, 800), (800, 1200)


def unbuilt(name):
    """A model without the numbers in its variables."""
    with keras.StatelessScope(initialize_variables=False):
        model = registry.detector_class(name).from_record(registry.config(name), name)
        model.build_variables()
    return model


@pytest.fixture(scope="module")
def caddet():
    return unbuilt("caddet-fcos")


@pytest.mark.parametrize("size", SIZES)
def test_routes_cost_what_our_readings_of_the_paper_come_to(caddet, size):
    assert list(caddet.paths) == list(ROUTES)
    for name, path in caddet.paths.items():
        macs = profiling.path_macs(caddet, path, size)
        assert round(macs / 1e6, 1) == ROUTES[name][SIZES.index(size)], name
        # The formulas, and what the layers count that are really run, are two ways to the same.
        cost = GridCost.of(caddet.config.supernet, size)
        hard = cost.hard(caddet.config.supernet.route(name)[None].astype(np.float32))
        floor = profiling.path_macs(caddet, caddet.paths["floor"], size)
        assert float(hard[0]) * cost.total + floor == pytest.approx(macs, rel=1e-6)


def test_parameters_are_those_computed_for_the_parts(caddet):
    def millions(*names):
        chosen = (w for w in caddet.backbone.trainable_weights if any(n in w.path for n in names))
        return round(sum(np.prod(w.shape) for w in chosen) / 1e6, 2)

    assert (caddet.backbone.config.num_gates, len(caddet.backbone.nodes)) == (149, 62)
    assert millions("/unit_") - millions("/unit_0/bn", "/unit_1/bn") == pytest.approx(
        10.22, abs=0.011
    )
    assert (millions("/up/conv"), millions("/down/conv")) == (2.29, 2.46)
    assert (millions("/stem_"), millions("/router_", "/node_")) == (0.01, 17.59)
    counts = [
        sum(np.prod(w.shape) for w in layer.weights) for layer in caddet.neck.lateral.values()
    ]
    assert round(sum(counts) / 1e6, 2) == 0.25
    assert round(caddet.neck.coarse["P7"].count_params() / 1e6, 2) == 0.59


def test_fpnlite_adds_what_was_computed_for_it():
    for size, added in zip(SIZES, (721.1, 1353.2), strict=True):
        lite, plain = (neck_macs(kind, size) for kind in ("fpnlite", "projection"))
        assert round((lite - plain) / 1e6, 1) == added


def neck_macs(kind, size):
    config = registry.config("caddet-fcos").supernet
    maps = {
        f"P{level}": keras.KerasTensor((1, *side, channels))
        for level, (side, channels) in enumerate(
            zip(config.map_sizes(size), config.channels, strict=True), start=3
        )
    }
    with keras.StatelessScope(initialize_variables=False):
        neck = FPN(256, kind=kind)
        neck(maps)
        return profiling.path_macs(neck, lambda _: neck(maps), size)


@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_one_mobilenet_costs_the_published_count_and_the_other_more(head):
    for name, expected in (("mobilenetv2", 7.800), ("mobilenet", 14.129)):
        parts = profiling.profile(f"{name}-fpnlite-{head}", (800, 1200)).parts
        macs = parts["backbone"].macs + parts["neck"].macs
        assert round(macs / 1e9, 3) == expected
