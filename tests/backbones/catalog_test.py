import keras
import pytest

from tfdet.backbones.catalog import make_backbone, names
from tfdet.backbones.protocol import level_channels
from tfdet.errors import UserError


@pytest.mark.parametrize("name", names())
def test_every_backbone_gives_every_level_it_is_asked_for(name):
    with keras.StatelessScope(initialize_variables=False):
        backbone = make_backbone(name, (2, 3, 4, 5), "frozen", name="body")
        maps = backbone.compute_output_spec(keras.KerasTensor((1, 64, 96, 3)))
    assert backbone.name == "body"
    sizes = {level: tuple(x.shape[1:3]) for level, x in maps.items()}
    assert sizes == {"P2": (16, 24), "P3": (8, 12), "P4": (4, 6), "P5": (2, 3)}
    assert backbone.channels == {level: x.shape[-1] for level, x in maps.items()}


@pytest.mark.parametrize("name", names())
def test_channels_are_those_of_the_levels_that_are_asked_for(name):
    with keras.StatelessScope(initialize_variables=False):
        backbone = make_backbone(name, (3, 5), "frozen")
        maps = backbone.compute_output_spec(keras.KerasTensor((1, 64, 96, 3)))
    assert level_channels(backbone) == {level: x.shape[-1] for level, x in maps.items()}


def test_wrong_names_and_keys_are_refused():
    with pytest.raises(UserError, match="did you mean 'mnv2'"):
        make_backbone("mnv3", (3,), "plain")
    with pytest.raises(UserError, match="frozen_stages is for ResNets"):
        make_backbone("b0", (3,), "plain", frozen_stages=2)
