"""EfficientNets of timm named tf_*."""

import numpy as np
import pytest

from tests.weights import effdet_test, filled, foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights import sources
from tfdet.weights.timm_tf import SOURCE


def shapes_of(scale: str) -> dict[str, tuple[int, ...]]:
    """timm's file of a scale, with its classifier."""
    shapes = effdet_test.backbone("", scale)
    shapes |= {"conv_head.weight": (1280, 320, 1, 1), **effdet_test.batch_norm("bn2", 1280)}
    return {**shapes, "classifier.weight": (1000, 1280), "classifier.bias": (1000,)}


@pytest.mark.parametrize(("scale", "pixels"), [("b0", "imagenet"), ("lite0", "lite")])
def test_every_tensor_has_its_place_and_every_variable_its_tensor(scale, pixels):
    shapes = shapes_of(scale)
    settings = SOURCE.settings("fcos-test", shapes)
    assert settings == {"backbone": scale, "pixels": pixels, "frozen_stages": 0}
    model = registry.create("fcos-test", **settings)
    entries = filled.take(model, SOURCE, filled.arrays(shapes))
    filled.assert_filled_once(entries, model.backbone.weights)


def test_a_file_has_to_be_named_since_others_have_the_same_tensors():
    shapes = shapes_of("b0")
    assert SOURCE.backbone_only(shapes)
    with pytest.raises(UserError, match=r"has to be named: timm_tf:x\.pth \(timm .* tf_efficient"):
        sources.recognised(shapes, "x.pth")
    assert sources.named("timm_tf", shapes, "x.pth") is SOURCE


def test_other_networks_are_refused():
    cut = {name: s for name, s in shapes_of("b0").items() if not name.startswith("blocks.6")}
    with pytest.raises(UserError, match="of 15 blocks and a stem of 32 channels is no published"):
        SOURCE.settings("fcos-test", cut)
    with pytest.raises(UserError, match="tf_efficientnet b0, the model has test; set backbone: b0"):
        SOURCE.entries(registry.create("fcos-test"), shapes_of("b0"))


@pytest.mark.parity
@pytest.mark.parametrize("size", [(128, 160), (97, 131)])
def test_maps_are_those_of_timm(size):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    theirs = timm.create_model("tf_efficientnet_b0")
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert shapes == shapes_of("b0")
    values = filled.arrays(shapes)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in values.items()})
    values = effdet_test.settled(theirs, size)
    model = registry.create("fcos-test", **SOURCE.settings("fcos-test", shapes))
    filled.take(model, SOURCE, values)
    images = np.asarray(model.normalization(filled.images(1, size)))
    with torch.no_grad():
        x = theirs.bn1(theirs.conv_stem(effdet_test.channels_first(images)))
        maps = []
        for stage in theirs.blocks:
            x = stage(x)
            maps.append(x.permute(0, 2, 3, 1).numpy())
    found, differences = model.backbone(images), {}
    for level, i in (("P3", 2), ("P4", 4), ("P5", 6)):
        assert maps[i].std(axis=(1, 2)).mean() > 0.01 * np.abs(maps[i]).max()
        differences[level] = foreign.difference(found[level], maps[i])
    print(size, {level: f"{x:.1e}" for level, x in differences.items()})
    assert max(differences.values()) < 1e-4, differences
