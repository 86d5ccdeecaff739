"""Every count that was published or computed for Joint-DetNAS, to the printed digit."""

import dataclasses
import math

import keras
import pytest

from tfdet import profiling, registry
from tfdet.backbones.encoding import encoding_of_widths

# Name, (height, width); multiply-adds of backbone, FPN, RPN, box head and of all in G; operations
# as mmdetection counts them; and what the paper prints.
COSTS = [
    ("faster-rcnn-r18", (800, 1333), (38.73, 54.40, 52.85, 14.30, 160.29), 160.53, 160.5),
    ("faster-rcnn-r50", (800, 1333), (87.33, 60.57, 52.85, 14.30, 215.05), 215.82, 215.8),
    ("faster-rcnn-r101", (800, 1333), (166.88, 60.57, 52.85, 14.30, 294.60), 295.70, 295.7),
    ("faster-rcnn-x101", (800, 1280), (162.61, 58.00, 50.62, 14.30, 285.53), 286.88, 286.9),
    ("faster-rcnn-x101", (800, 1333), (170.48, 60.57, 52.85, 14.30, 298.20), 299.61, None),
    ("joint-detnas-r18", (720, 1080), (24.76, 39.60, 38.47, 14.30, 117.13), 117.29, 117.3),
    # The one exception: 0.07 G above the paper, for a reason that is not known.
    ("joint-detnas-r50", (720, 1080), (50.07, 42.46, 38.47, 14.30, 145.30), 145.77, None),
    ("joint-detnas-r101", (720, 1080), (58.41, 42.20, 38.47, 14.30, 153.38), 153.90, 153.9),
    ("joint-detnas-x101", (800, 1280), (142.12, 58.00, 50.62, 14.30, 265.04), 266.34, 266.3),
    ("joint-detnas-x101", (800, 1333), (148.97, 60.57, 52.85, 14.30, 276.69), 278.05, None),
]
R50_FOUND, R50_FOUND_PRINTED = 145.77, 145.7
# Parameters of the backbone and of the whole in M, statistics of batch norms left out.
PARAMETERS = {
    "faster-rcnn-r18": (11.18, 28.68),
    "faster-rcnn-r50": (23.51, 41.75),
    "faster-rcnn-r101": (42.50, 60.75),
    "faster-rcnn-x101": (42.13, 60.37),
    "joint-detnas-r18": (11.10, 28.61),
    "joint-detnas-r50": (19.39, 37.41),
    "joint-detnas-r101": (24.05, 42.04),
    "joint-detnas-x101": (37.03, 55.27),
}
# Multiply-adds of the stem and of each stage in G.
STAGES = {
    "joint-detnas-r18": ((720, 1080), (1.83, 3.58, 6.37, 6.42, 6.56)),
    "joint-detnas-r50": ((720, 1080), (1.83, 8.77, 11.96, 16.61, 10.90)),
    "joint-detnas-r101": ((720, 1080), (1.83, 6.57, 9.98, 29.03, 11.00)),
    "joint-detnas-x101": ((800, 1280), (2.41, 12.24, 22.15, 90.47, 14.85)),
}
# Operations of bases at the four sizes of the teacher pool.
SIZES = ((800, 1333), (720, 1080), (600, 800), (512, 512))
AT_SIZES = {
    "faster-rcnn-r18": (160.5, 120.9, 80.1, 50.1),
    "faster-rcnn-r50": (215.8, 161.3, 105.0, 63.7),
    "faster-rcnn-r101": (295.7, 219.4, 141.1, 83.1),
    "faster-rcnn-x101": (299.6, 222.3, 142.9, 84.1),
}
# Subnets of the teacher pool: depths, width; operations at the four sizes; parameters in M.
TEACHERS = [
    ((3, 4, 23, 3), 1.5, (504.7, 372.0, 235.5, 134.2), 114.3),
    ((3, 4, 12, 3), 1.25, (309.3, 229.5, 147.2, 86.5), 65.7),
    ((2, 2, 2, 2), 1.0, (178.2, 133.8, 88.0, 54.5), 32.2),
]


@pytest.fixture(scope="module")
def built():
    """Detectors without weights, made once."""
    models = {}

    def get(name, config=None):
        key = (name, config)
        if key not in models:
            with keras.StatelessScope(initialize_variables=False):
                config = config or registry.config(name)
                models[key] = registry.detector_class(name).from_record(config, name)
                models[key].build_variables()
        return models[key]

    return get


def giga(count, digits=2):
    return round(count / 1e9, digits)


@pytest.mark.parametrize(("name", "size", "macs", "operations", "printed"), COSTS)
def test_operations_are_the_published_ones(built, name, size, macs, operations, printed):
    profile = profiling.profile(built(name), size)
    assert (*(giga(p.macs) for p in profile.parts.values()), giga(profile.macs)) == macs
    assert giga(profile.mmdet_flops) == operations
    if printed is not None:
        assert giga(profile.mmdet_flops, 1) == printed


def test_the_found_r50_is_the_only_one_off_the_papers_digit(built):
    unprinted = {row[3] for row in COSTS if row[4] is None and row[1] != (800, 1333)}
    assert unprinted == {R50_FOUND}
    assert round(R50_FOUND - R50_FOUND_PRINTED, 2) == 0.07


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(built, name):
    model = built(name)
    assert tuple(round(parameters(x) / 1e6, 2) for x in (model.backbone, model)) == PARAMETERS[name]


def parameters(layer):
    return sum(math.prod(v.shape) for v in layer.weights if not v.name.startswith("moving_"))


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_costs_what_was_computed(built, name):
    size, expected = STAGES[name]
    model = built(name)
    paths = [profiling.path_macs(model, through(model.backbone, n), size) for n in range(5)]
    costs = [after - before for before, after in zip([0, *paths], paths, strict=False)]
    assert tuple(giga(cost) for cost in costs) == expected


def through(body, stages):
    """A function that runs the stem and so many stages."""

    def run(images):
        x = body.pool(body.stem_bn(body.stem_conv(images)))
        for blocks in body.stages[:stages]:
            for block in blocks:
                x = block(x)
        return x

    return run


@pytest.mark.parametrize("name", AT_SIZES)
def test_bases_cost_what_was_computed_at_each_size(built, name):
    found = [giga(profiling.profile(built(name), size).mmdet_flops, 1) for size in SIZES]
    assert tuple(found) == AT_SIZES[name]


@pytest.mark.parametrize(("depths", "width", "operations", "millions"), TEACHERS)
def test_subnets_of_the_teacher_pool_cost_what_was_computed(
    built, depths, width, operations, millions
):
    scales = [round(64 * width) * 2**s for s in range(4)]
    encoding = encoding_of_widths(
        [[(x, x, 4 * x)] * depth for x, depth in zip(scales, depths, strict=True)]
    )
    config = dataclasses.replace(registry.config("faster-rcnn-r101"), backbone=encoding)
    model = built("faster-rcnn-r101", config)
    found = [giga(profiling.profile(model, size).mmdet_flops, 1) for size in SIZES]
    assert tuple(found) == operations
    assert round(parameters(model) / 1e6, 1) == millions


def test_the_students_are_registered_at_the_sizes_that_they_were_found_with():
    sizes = {n: registry.config(n).image_size for n in PARAMETERS if n.startswith("joint")}
    assert set(sizes.values()) == {(720, 1080), (800, 1333)}
    assert sizes["joint-detnas-x101"] == (800, 1333)
    assert {n for n in registry.list_models() if n.startswith("joint-detnas-")} == set(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_the_students_run_at_their_sizes(name):
    model = registry.create(name, num_classes=3)
    found = model.predict(keras.ops.zeros((1, *model.image_size, 3)), verbose=0)
    assert found["boxes"].shape == (1, 100, 4)
