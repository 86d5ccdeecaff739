import keras
import pytest

from tfdet import registry
from tfdet.backbones import efficientnet, mobilenet, resnet, swin
from tfdet.backbones.catalog import encoding_of, make_backbone, names
from tfdet.backbones.protocol import level_channels
from tfdet.errors import UserError

DILATED = [name for name in names() if getattr(encoding_of(name), "last_level", 5) < 5]


@pytest.mark.parametrize("name", sorted(set(names()) - set(DILATED)))
def test_every_backbone_gives_every_level_it_is_asked_for(name):
    with keras.StatelessScope(initialize_variables=False):
        backbone = make_backbone(name, (2, 3, 4, 5), "frozen", name="body")
        maps = backbone.compute_output_spec(keras.KerasTensor((1, 64, 96, 3)))
    assert backbone.name == "body"
    sizes = {level: tuple(x.shape[1:3]) for level, x in maps.items()}
    assert sizes == {"P2": (16, 24), "P3": (8, 12), "P4": (4, 6), "P5": (2, 3)}
    assert backbone.channels == {level: x.shape[-1] for level, x in maps.items()}


FAMILIES = (
    resnet.STYLES,
    mobilenet.V2_SCALES,
    mobilenet.V1_SCALES,
    efficientnet.SCALES,
    swin.STYLES,
)


# The first of each; the test above has all names, and all levels.
@pytest.mark.parametrize("name", [next(iter(family)) for family in FAMILIES])
def test_channels_are_those_of_the_levels_that_are_asked_for(name):
    with keras.StatelessScope(initialize_variables=False):
        backbone = make_backbone(name, (3, 5), "frozen")
        maps = backbone.compute_output_spec(keras.KerasTensor((1, 64, 96, 3)))
    assert level_channels(backbone) == {level: x.shape[-1] for level, x in maps.items()}


@pytest.mark.parametrize("name", DILATED)
def test_the_last_level_is_p4_where_the_last_stage_keeps_its_map(name):
    with keras.StatelessScope(initialize_variables=False):
        backbone = make_backbone(name, (2, 4), "frozen")
        maps = backbone.compute_output_spec(keras.KerasTensor((1, 65, 96, 3)))
    assert {level: tuple(x.shape[1:3]) for level, x in maps.items()} == {
        "P2": (17, 24),
        "P4": (5, 6),
    }
    assert level_channels(backbone) == {level: x.shape[-1] for level, x in maps.items()}
    assert maps["P4"].shape[-1] == encoding_of(name).out_widths[-1]
    with pytest.raises(UserError, match="levels up to P4, but P5 is needed"):
        make_backbone(name, (3, 4, 5), "frozen")


def test_wrong_names_and_keys_are_refused():
    with pytest.raises(UserError, match="did you mean 'mnv2'"):
        make_backbone("mnv3", (3,), "plain")
    with pytest.raises(UserError, match="frozen_stages is for ResNets"):
        make_backbone("b0", (3,), "plain", frozen_stages=2)


@pytest.mark.parametrize(
    "name",
    [
        "fcos-test",
        "packdet-test",
        "retinanet-test",
        "faster-rcnn-test",
        "mask-rcnn-test",
        "detr-test",
    ],
)
def test_lite_backbones_are_built_as_published_in_every_detector(name):
    with pytest.raises(UserError, match=r"takes its own pixels.*set pixels: lite"):
        registry.config(name, backbone="lite0")
    keys = {"backbone": "lite0", "pixels": "lite"}
    keys |= {"level": 5} if name == "detr-test" else {}
    with keras.StatelessScope(initialize_variables=False):
        model = registry.detector_class(name).from_record(registry.config(name, **keys), name)
    assert model.backbone.activation == "relu6"
    assert set(model.normalization.mean + model.normalization.std) == {127.0, 128.0}


def test_an_efficientdet_refuses_a_lite_backbone_of_another_function():
    with pytest.raises(UserError, match="set pixels: lite"):
        registry.config("efficientdet-d0", backbone="lite0")
    with pytest.raises(UserError, match="has ReLU6, got activation: swish; set activation: relu6"):
        registry.config("efficientdet-d0", backbone="lite0", pixels="lite")
    config = registry.config("efficientdet-d0", backbone="lite0", pixels="lite", activation="relu6")
    assert config.backbone == "lite0"


def test_lite_parts_of_cascades_have_their_pixels():
    with pytest.raises(UserError, match="set pixels: lite"):
        registry.config("dy-faster-rcnn-test", **{"second.backbone": "lite0"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet50", "did you mean 'r50'?"),
        ("mobilenet_v2", "did you mean 'mnv2'?"),
        ("efficientnet-lite0", "did you mean 'lite0'?"),
        ("vgg", "known: b0, b1, "),
    ],
)
def test_an_unknown_backbone_is_answered_with_the_name_that_it_has_here(name, hint):
    with pytest.raises(UserError, match="unknown backbone") as caught:
        make_backbone(name, (3,), "frozen")
    assert hint in str(caught.value)
    assert "-test" not in str(caught.value)
