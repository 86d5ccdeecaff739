"""Counts of FCOS, PackDet and RetinaNet against the published ones."""

import keras
import pytest

from tfdet import profiling, registry

# All parameters and those of the head. Frozen batch norms do not count: in the published code they
# are constants.
PUBLISHED = {
    "fcos-r50": (32_244_250, 4_920_666),
    "fcos-r101": (51_184_154, 4_920_666),
    "fcos-x101-dcn": (97_334_030, None),
    "fcos-mnv2": (9_798_234, 4_920_666),
    "packdet-r50": (31_591_962, 4_268_378),
    "packdet-r101": (50_531_866, 4_268_378),
    "packdet-x101-dcn": (96_619_534, 4_330_640),
    "packdet-mnv2": (9_145_946, 4_268_378),
    "retinanet-r50": (37_915_572, 6_463_220),
    "retinanet-r101": (56_855_476, 6_463_220),
    "retinanet-packop-r50": (36_493_364, 5_041_012),
}

# Parameters of the first two stages, which are not trained.
FROZEN = {"r50": 222_400, "r101": 222_400, "dcn": 397_504, "mnv2": 0}

# Tensors in the published files. Their MobileNet has a counter per batch norm, 51 in all.
KEYS = {
    "fcos-r50": 324,
    "packdet-r50": 368,
    "packdet-r101": 623,
    "packdet-x101-dcn": 679,
    "packdet-mnv2": 409 - 51,
    "retinanet-r50": 306 - 5,
    "retinanet-packop-r50": 365 - 8,
}


@pytest.fixture(scope="module")
def built():
    models = {}

    def get(name):
        if name not in models:
            with keras.StatelessScope(initialize_variables=False):
                models[name] = registry.detector_class(name).from_record(
                    registry.config(name), name
                )
                models[name].build_variables()
        return models[name]

    return get


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(built, name):
    total, head = PUBLISHED[name]
    profile = profiling.profile(built(name))
    assert profile.parameters == total
    if head is not None:
        assert profile.parts["head"].parameters == head
    assert profile.trainable == total - FROZEN[name.rpartition("-")[2]]


@pytest.mark.parametrize("name", KEYS)
def test_variables_are_as_many_as_in_the_published_files(built, name):
    # A file of FCOS has a key per level's scalar; here they are one variable.
    extra = 4 if name.startswith("fcos") else 0
    assert len(built(name).weights) + extra == KEYS[name]


def test_every_published_name_is_in_the_table():
    families = ("fcos-", "packdet-", "retinanet-")
    names = {name for name in registry.list_models() if name.startswith(families)}
    own = {name for name in names if name.endswith("-nano")}
    # Nobody published the count of this one.
    assert names - own == set(PUBLISHED) | {"retinanet-packop-r101"}


@pytest.mark.parametrize(
    ("name", "per_cell", "cells", "extras"),
    [
        ("fcos-r50", 4_914_432, 22_400, 0),
        # The extra maps are made before packing by 3x3 convolutions of 256 channels.
        ("packdet-r50", 2_489_984, 25_200, 9 * 256 * 256 * (25 * 42 + 13 * 21 + 7 * 11)),
    ],
)
def test_the_work_of_the_heads_is_the_published_one(name, per_cell, cells, extras):
    head = profiling.profile(name).parts["head"]
    assert head.macs == per_cell * cells + extras


def test_the_small_ones_for_shapes_cost_the_same():
    fcos, packdet = (profiling.profile(f"{name}-nano").macs for name in ("fcos", "packdet"))
    assert packdet == pytest.approx(fcos, rel=0.02)


@pytest.mark.parametrize("name", ["fcos", "packdet", "retinanet", "retinanet-packop"])
def test_the_ones_for_tests_are_small(name):
    assert profiling.profile(f"{name}-test").parameters < 50_000
