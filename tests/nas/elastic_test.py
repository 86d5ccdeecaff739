"""A super-network: what its subnets compute, and what a step trains."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.nas import teacher_cases
from tfdet import registry
from tfdet.errors import UserError
from tfdet.nas import elastic, extraction
from tfdet.nas.subnets import ElasticConfig
from tfdet.nas.teacher_pool import TeacherPool, backbone_parameters


@pytest.mark.parametrize(
    "subnet",
    [teacher_cases.MIXED, teacher_cases.SPACE.smallest, teacher_cases.SPACE.largest],
    ids=str,
)
def test_an_extracted_subnet_says_what_the_super_network_said(lively, maps, subnet):
    """Bit for bit: all sums are of small whole numbers."""
    model = lively(dataclasses.replace(teacher_cases.FULL, epsilon=0.0), exact=True)
    pool = TeacherPool(model, teacher_cases.SPACE, teacher_cases.batches)
    with elastic.masked(elastic.subnet_masks(model, teacher_cases.SPACE, subnet)):
        wanted = maps(model)
    alone = pool.extract(subnet)
    found = maps(alone)
    assert any(np.any(x) for x in found.values())
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    assert alone.config.backbone == pool.encoding(subnet)
    assert alone.config.backbone.depths == subnet.depths
    is_whole = subnet == teacher_cases.SPACE.largest
    assert (alone.config.backbone == model.config.backbone) == is_whole
    if is_whole:
        unmasked = maps(model)
        assert all(np.array_equal(unmasked[name], value) for name, value in wanted.items())
    parameters = alone.backbone.count_params()
    assert parameters == backbone_parameters(pool.encoding(subnet))


def test_a_step_trains_what_the_subnet_has_and_all_others_that_share_it():
    model = teacher_cases.super_network(weight_decay=0.0)
    pool_before = TeacherPool(model, teacher_cases.SPACE, teacher_cases.batches)
    only = ElasticConfig(
        depths=tuple((d,) for d in teacher_cases.MIXED.depths),
        widths=tuple((w,) for w in teacher_cases.MIXED.widths),
    )
    wrapper = elastic.Elastic(model, only)
    wrapper.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    wrapper.fit(tf.data.Dataset.from_tensors(next(teacher_cases.batches())), verbose=0)
    pool_after = TeacherPool(model, teacher_cases.SPACE, teacher_cases.batches)
    before, after = pool_before._weights, pool_after._weights
    kernel = "backbone/stage_1_block_0/conv2/kernel"  # 12 x 12 channels, of which 8 x 8 are there
    changed = before[kernel] != after[kernel]
    assert changed[:, :, :8, :8].any()
    assert not changed[:, :, 8:].any() and not changed[..., 8:].any()
    absent = [name for name in before if "stage_1_block_1" in name and "moving" not in name]
    assert absent and not any(np.any(before[name] != after[name]) for name in absent)
    # Another subnet that has the same channels has been trained with it.
    other = dataclasses.replace(teacher_cases.SPACE.smallest, widths=(1.5,) * 4)
    cut = [
        extraction.extract(teacher_cases.FULL, weights, other, 1.5)[1][kernel]
        for weights in (before, after)
    ]
    assert np.any(cut[0] != cut[1])


def test_draws_follow_from_seed_and_step_and_cover_the_choices():
    wrapper = elastic.Elastic(teacher_cases.super_network(), teacher_cases.CONFIG, seed=3)
    wrapper.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)

    def drawn(step):
        wrapper.optimizer.iterations.assign(step)
        masks = wrapper._drawn_masks()
        return tuple(int(np.sum(mask)) for mask in masks.values())

    rows = [drawn(step) for step in range(40)]
    assert rows == [drawn(step) for step in range(40)]
    assert len(set(rows)) > 20
    first_inner = {row[0] for row in rows}  # of stage 1: 8 or 12 channels
    assert first_inner == {8, 12}


def test_each_step_has_a_size_with_scaled_boxes():
    sizes = ((64, 64), (32, 48))
    model = teacher_cases.super_network()
    wrapper = elastic.Elastic(model, dataclasses.replace(teacher_cases.CONFIG, sizes=sizes), seed=1)
    wrapper.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=False)
    seen = []

    def loss_terms(targets, raw, training):
        seen.append((raw["maps"]["P2"].shape[1:3], targets["boxes"]))
        return model.loss_terms(targets, raw, training)

    wrapper.loss_terms = loss_terms
    wanted = [wrapper.size_of_step(step) for step in range(20)]
    assert set(wanted) == {0, 1}
    for size, scale in ((0, 1.0), (1, 0.5)):  # 64 x 64 fits into 32 x 48 as 32 x 32
        wrapper._size = size
        data = next(teacher_cases.batches())
        wrapper._tensorflow_step(data)
        shape, boxes = seen[-1]
        assert tuple(shape) == (16 * scale, 16 * scale)
        np.testing.assert_allclose(boxes, data[1]["boxes"] * scale)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "test"}, "does not stand on a ResNet"),
        ({"batch_norm": "frozen"}, "trains all of its batch norms"),
        ({"gradient_checkpointing": True}, "would forget the subnet"),
    ],
)
def test_models_that_cannot_be_super_networks_are_refused(changes, message):
    settings = {"backbone": teacher_cases.FULL, **changes}
    name = "faster-rcnn-test"
    model = registry.detector_class(name).from_record(registry.config(name, **settings), name)
    with pytest.raises(UserError, match=message):
        elastic.Elastic(model, ElasticConfig())
