import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.heads.rpn import ProposalConfig, Proposals, RPNHead
from tfdet.ops.anchors import AnchorConfig, anchors

ANCHORS = AnchorConfig(3, 4, 1, (1.0,), 2.0, style="corner")
SIZE = (64, 64)
COUNT = 64 + 16


def predictions(scores, codes=None):
    """Raw predictions of one image whose other anchors are improbable."""
    logits = np.full((1, COUNT), -9.0, np.float32)
    for row, score in scores.items():
        logits[0, row] = score
    codes = np.zeros((1, COUNT, 4), np.float32) if codes is None else codes
    return {"objectness_logits": logits, "anchor_codes": codes}


def propose(raw, **changes):
    layer = Proposals(ANCHORS, ProposalConfig(**{"count": 10, **changes}))
    return {k: np.asarray(v) for k, v in layer(raw, image_size=SIZE).items()}


def test_proposals_are_the_best_anchors_first_clipped_to_the_image():
    found = propose(predictions({9: 2.0, 70: 3.0, 36: 1.0}))
    boxes = np.clip(anchors(ANCHORS, SIZE), 0, 64)
    np.testing.assert_allclose(found["boxes"][0, :3], boxes[[70, 9, 36]], atol=1e-4)


def test_of_two_boxes_of_a_level_that_overlap_the_better_stays():
    codes = np.zeros((1, COUNT, 4), np.float32)
    place = anchors(ANCHORS, SIZE)
    # The neighbour is moved onto anchor 27: centres are coded in sides of the anchor.
    codes[0, 28, 0] = (place[27, 0] - place[28, 0]) / (place[28, 2] - place[28, 0])
    found = propose(predictions({27: 1.0, 28: 2.0}, codes), count=COUNT)
    onto = np.all(np.abs(found["boxes"][0] - place[27]) < 1e-3, axis=-1) & found["is_proposal"][0]
    assert onto.sum() == 1


def test_nan_is_no_proposal_and_missing_ones_are_marked():
    raw = predictions({})
    raw["objectness_logits"][:] = np.nan
    found = propose(raw)
    assert found["boxes"].shape == (1, 10, 4)
    assert not found["is_proposal"].any() and not found["boxes"].any()


def test_the_head_has_a_row_per_anchor():
    head = RPNHead(anchors_per_cell=3, filters=8)
    maps = {"P3": np.zeros((2, 8, 8, 4), np.float32), "P4": np.ones((2, 4, 4, 4), np.float32)}
    found = head(maps)
    assert found["objectness_logits"].shape == (2, 240)
    assert found["anchor_codes"].shape == (2, 240, 4)


def test_layers_are_made_again_from_their_configuration():
    layer = Proposals(ANCHORS, ProposalConfig(count=7))
    again = Proposals.from_config(layer.get_config())
    assert (again.anchors, again.config) == (layer.anchors, layer.config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"count": 0}, "count must be at least 1"), ({"iou_threshold": 1.5}, "between 0 and 1")],
)
def test_mistakes_are_named(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        ProposalConfig(**changes)
