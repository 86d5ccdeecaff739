"""Weights leave a detector by name and come back whole."""

import numpy as np
import pytest

from tfdet import registry
from tfdet.backbones.encoding import encoding_of_widths
from tfdet.errors import UserError
from tfdet.nas.weights import (
    block_weights,
    model_encoding,
    model_readers,
    put_weights,
    rebuild,
    stage_weights,
    take_weights,
    with_stages,
)

ENCODING = encoding_of_widths([[(6, 5, 8)] * 2, [(6, 7, 12)], [(6, 6, 10)], [(5, 4, 10)]], stem=6)


def test_a_rebuilt_detector_detects_the_same(lively):
    model = lively(ENCODING, "fcos-test")
    student = rebuild(model, ENCODING, take_weights(model))
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    for name, value in model(image, training=False).items():
        np.testing.assert_array_equal(student(image, training=False)[name], value)
    assert (student.config, student.name) == (model.config, model.name)


def test_weights_that_do_not_fit_are_refused(lively):
    model = lively(ENCODING)
    weights = take_weights(model)
    name = "backbone/stage_1_block_0/conv1/kernel"
    for broken in (
        {k: v for k, v in weights.items() if k != name},
        weights | {name: weights[name][..., :2]},
        weights | {"backbone/stage_9": np.zeros(3)},
    ):
        with pytest.raises(UserError, match="the weights do not fit faster-rcnn-test: backbone/st"):
            put_weights(model, broken)


def test_blocks_are_taken_out_and_put_back():
    names = [f"backbone/stage_{s}_block_{i}/bn1/gamma" for s, i in ((1, 0), (1, 1), (2, 0))]
    weights = {name: np.full(3, i) for i, name in enumerate([*names, "backbone/stem_bn/gamma"])}
    assert list(block_weights(weights, (1, 1))) == ["bn1/gamma"]
    assert with_stages(weights, {1: stage_weights(ENCODING, weights, 1)}) == weights
    swapped = with_stages(weights, {1: stage_weights(ENCODING, weights, 1)[::-1]})
    assert swapped[names[0]] is weights[names[1]] and swapped[names[2]] is weights[names[2]]


def test_only_detectors_on_a_resnet_have_an_encoding():
    assert model_encoding(registry.create("fcos-test", backbone=ENCODING)) == ENCODING
    for name in ("fcos-test", "efficientdet-test"):
        with pytest.raises(UserError, match=rf"{name} does not stand on a ResNet but on '\w+'"):
            model_encoding(registry.create(name))


def test_retinanets_extra_level_reads_the_last_stage(lively):
    name = "neck/coarse_p6/kernel"
    for model, reads in (("retinanet-test", True), ("fcos-test", False)):
        assert (name in model_readers(lively(ENCODING, model))[4]) == reads
