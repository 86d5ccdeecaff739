"""Counts of YOLOv7 and Dy-YOLOv7 against the published ones."""

import functools

import pytest

from tfdet import profiling, registry

# Parameters as trained and merged; multiply-adds in G as trained and merged, at 640 and 1280
# pixels; operations in G as published, at the model's own size.
PUBLISHED = {
    "yolov7": (37_622_682, 36_905_341, 52.885, 52.256, 209.02, 104.7),
    "yolov7-x": (71_347_394, 71_311_741, 94.837, 94.837, 379.35, 189.9),
    "yolov7-w6": (70_429_816, 70_394_300, 44.965, 44.965, 179.859, 360.0),
}
# Implicit vectors, which other counts of merged networks include though they do nothing there.
IMPLICIT = {"yolov7": 2_557, "yolov7-x": 3_005, "yolov7-w6": 3_580}
MERGED_WITH_IMPLICIT = {"yolov7": 36_907_898, "yolov7-x": 71_314_746}
# Parameters of the backbone and of all behind it; multiply-adds in G of the backbone, and of all
# behind it as trained and merged, at the model's own size.
PARTS = {
    "yolov7": (13_371_808, 24_250_874, 33.069, 19.815, 19.186),
    "yolov7-x": (20_275_272, 51_072_122, 50.335, 44.502, 44.502),
    "yolov7-w6": (35_988_608, 34_441_208, 110.730, 69.129, 69.129),
}


def counted(name, size=None, **changes):
    return _counted(name, size or registry.config(name).image_size[0], **changes)


@functools.cache
def _counted(name, size, **changes):
    return profiling.profile_config(name, registry.config(name, **changes), (size, size))


def gmacs(count):
    return round(count.macs / 1e9, 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    parameters, merged_parameters, gmac, merged_gmac, merged_gmac_1280, _ = PUBLISHED[name]
    trained, merged = counted(name, 640), counted(name, 640, merged=True)
    assert trained.parameters == parameters
    assert merged.parameters == merged.parameters_total == merged_parameters
    assert (gmacs(trained), gmacs(merged)) == (gmac, merged_gmac)
    digits = len(str(merged_gmac_1280).split(".")[1])
    at_1280 = counted(name, 1280, merged=True).macs / 1e9
    assert round(at_1280, digits) == merged_gmac_1280


@pytest.mark.parametrize("name", PUBLISHED)
def test_implicit_vectors_are_what_merging_drops(name):
    with_them = counted(name).parameters
    assert with_them - counted(name, implicit=False).parameters == IMPLICIT[name]
    if name in MERGED_WITH_IMPLICIT:
        merged = counted(name, merged=True).parameters
        assert merged + IMPLICIT[name] == MERGED_WITH_IMPLICIT[name]


def test_w6_with_a_plain_head_is_the_published_deployed_one():
    assert counted("yolov7-w6", implicit=False).parameters == 70_426_236
    assert counted("yolov7-w6", implicit=False, merged=True).parameters == 70_394_300


def test_auxiliary_heads_cost_what_is_published_and_only_in_training():
    trained = counted("yolov7-w6", auxiliary_heads=True)
    assert (trained.parameters, round(trained.macs / 1e9, 2)) == (82_312_436, 210.06)
    merged = counted("yolov7-w6", auxiliary_heads=True, merged=True)
    assert merged == counted("yolov7-w6", merged=True)


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_the_published_ones(name):
    backbone, rest, backbone_gmac, rest_gmac, merged_gmac = PARTS[name]
    trained, merged = counted(name), counted(name, merged=True)
    assert trained.parts["backbone"].parameters == backbone
    assert sum(trained.parts[part].parameters for part in ("neck", "head")) == rest
    for profile, expected in ((trained, rest_gmac), (merged, merged_gmac)):
        assert gmacs(profile.parts["backbone"]) == backbone_gmac
        macs = profile.parts["neck"].macs + profile.parts["head"].macs
        assert round(macs / 1e9, 3) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_two_operations_per_multiply_add_are_the_published_operations(name):
    operations = 2 * counted(name, merged=True).macs / 1e9
    assert operations == pytest.approx(PUBLISHED[name][-1], rel=0.003)


# Parameters as trained, and merged with the implicit vectors counted and dropped. Multiply-adds in
# G of the early and the late path, merged, and of the late path as trained, at the model's own
# size; of the merged paths at 1280 pixels. Operations of the paths in G as published.
DYNAMIC = {
    "dy-yolov7": (
        (80_621_333, 79_191_765, 79_186_651),
        (52.258, 90.858, 91.487),
        (209.02, 363.43),
        (104.7, 181.7),
    ),
    "dy-yolov7-x": (
        (151_093_149, 151_027_853, 151_021_843),
        (94.840, 153.818, 153.818),
        (379.35, 615.26),
        (189.9, 307.9),
    ),
    "dy-yolov7-w6": (
        (147_364_049, 147_300_177, 147_293_017),
        (179.861, 300.866, 300.866),
        (179.861, 300.866),
        (360.0, 601.6),
    ),
}
# Parameters of the router, the first backbone, the second one with the fusion, the fusion and each
# of neck and head; multiply-adds in G of the backbones.
DYNAMIC_PARTS = {
    "dy-yolov7": (2_075_041, 13_371_808, 16_672_736, 3_300_928, 24_250_874, 33.069, 38.601),
    "dy-yolov7-x": (3_241_801, 20_275_272, 25_431_832, 5_156_560, 51_072_122, 50.335, 58.977),
    "dy-yolov7-w6": (1_894_753, 35_988_608, 40_598_272, 4_609_664, 34_441_208, 110.730, 121.006),
}
MERGED = {"first.merged": True, "second.merged": True}


def route_gmacs(count, digits=3):
    return [round(count.routes[name] / 1e9, digits) for name in ("early", "late")]


@pytest.mark.parametrize("name", DYNAMIC)
def test_cascades_count_as_published(name):
    parameters, gmac, gmac_1280, _ = DYNAMIC[name]
    trained, merged = counted(name), counted(name, **MERGED)
    dropped = 2 * IMPLICIT[name.removeprefix("dy-")]
    found = (trained.parameters, merged.parameters + dropped, merged.parameters)
    assert found == parameters
    assert (*route_gmacs(merged), route_gmacs(trained)[1]) == gmac
    digits = len(str(gmac_1280[0]).split(".")[1])
    assert tuple(route_gmacs(counted(name, 1280, **MERGED), digits)) == gmac_1280


@pytest.mark.parametrize("name", DYNAMIC_PARTS)
def test_parts_of_cascades_are_the_published_ones(name):
    router, first, second, fusion, rest, first_gmac, second_gmac = DYNAMIC_PARTS[name]
    parts = counted(name).parts
    sizes = {key: part.parameters for key, part in parts.items()}
    assert (sizes["router"], sizes["first_backbone"], sizes["fusion"]) == (router, first, fusion)
    assert sizes["fusion"] + sizes["second_backbone"] == second
    for role in ("first", "second"):
        assert sizes[f"{role}_neck"] + sizes[f"{role}_head"] == rest
    assert gmacs(parts["first_backbone"]) == first_gmac
    joined = parts["fusion"].macs + parts["second_backbone"].macs
    assert round(joined / 1e9, 3) == second_gmac


@pytest.mark.parametrize("name", DYNAMIC)
def test_operations_of_the_paths_are_the_published_ones(name):
    published = DYNAMIC[name][-1]
    for gmac, expected in zip(route_gmacs(counted(name, **MERGED)), published, strict=True):
        assert 2 * gmac == pytest.approx(expected, rel=0.003)


def test_the_slip_of_the_second_x_changes_no_count():
    changes = {"second.borrows_p2": False}
    assert counted("dy-yolov7-x", **changes) == counted("dy-yolov7-x")


def test_the_small_ones_are_small():
    assert 300_000 < counted("yolov7-nano").parameters < 700_000
    assert counted("yolov7-nano").macs < 0.06e9
    assert counted("yolov7-test").parameters < 50_000
