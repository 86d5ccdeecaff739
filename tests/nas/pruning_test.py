"""Detectors are pruned to a cost, and no further."""

import numpy as np
import pytest

from tfdet import profiling
from tfdet.backbones.encoding import encoding_of_widths
from tfdet.errors import UserError
from tfdet.nas.channel_pruning import removal_order, remove_channels
from tfdet.nas.pruning import prune_to
from tfdet.nas.weights import model_readers, rebuild, take_weights

ENCODING = encoding_of_widths(
    [[(8, 8, 16)] * 2, [(10, 9, 20)] * 2, [(12, 12, 24)], [(12, 10, 28)]], stem=8
)


# Most of the small Mask R-CNN is in its heads.
@pytest.mark.parametrize(("name", "share"), [("retinanet-test", 0.8), ("mask-rcnn-test", 0.985)])
def test_no_more_is_removed_than_the_target_takes(lively, maps, name, share):
    model = lively(ENCODING, name)
    before, weights = profiling.profile(model).macs, take_weights(model)
    target = share * before
    pruned = prune_to(model, target, floor=3)
    after = profiling.profile(pruned.model).macs
    assert pruned.macs == (before, after) and after <= target
    less, values = remove_channels(
        ENCODING,
        weights,
        removal_order(ENCODING, weights, 3)[: pruned.removed - 1],
        model_readers(model),
    )
    assert profiling.profile(rebuild(model, less, values)).macs > target
    assert pruned.encodings == (ENCODING, pruned.model.config.backbone)
    assert len(pruned.to_table().splitlines()) == 1 + sum(ENCODING.depths)
    for level, x in maps(pruned.model).items():
        assert np.isfinite(x).all() and x.shape[0] == 1, level


def test_targets_out_of_reach_are_told_with_what_can_be_reached(lively):
    model = lively(ENCODING)
    cost = profiling.profile(model).macs
    with pytest.raises(UserError, match=r"faster-rcnn-test costs .* G multiply-adds already"):
        prune_to(model, cost)
    with pytest.raises(UserError, match=r"to .* G at the least, with 8 channels left in each"):
        prune_to(model, cost / 100, floor=8)
