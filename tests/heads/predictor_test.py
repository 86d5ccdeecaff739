import keras
import numpy as np
import pytest

from tfdet.heads.predictor import TowerPredictor


def maps(*sides, channels=8):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, side, side, channels)).astype(np.float32) for side in sides]


def test_all_maps_share_the_towers():
    predictor = TowerPredictor(3, 2, filters=8, repeats=2, groups=2)
    (large, small), (again,) = maps(6, 3), maps(6)
    both, alone = predictor([large, small]), predictor([again])
    np.testing.assert_allclose(both["class"][0], alone["class"][0], atol=1e-6)
    assert [x.shape for x in both["box"]] == [(1, 6, 6, 8), (1, 3, 3, 8)]
    assert "centerness" not in both


@pytest.mark.parametrize("groups", [0, 2])
def test_parameters_are_as_many_as_the_layers_say(groups):
    predictor = TowerPredictor(3, 2, filters=8, repeats=2, groups=groups, centerness="class")
    predictor(maps(4))
    tower = 2 * (9 * 8 * 8 + 8 + (2 * 8 if groups else 0))
    ends = sum(9 * 8 * n + n for n in (6, 8, 1))
    assert predictor.count_params() == 2 * tower + ends


def test_only_the_last_convolution_of_a_tower_is_deformable():
    predictor = TowerPredictor(3, filters=8, repeats=3, groups=2, deformable=True)
    for tower in (predictor.class_tower, predictor.box_tower):
        assert [block.deformable for block in tower] == [False, False, True]


def test_it_is_made_again_from_its_configuration():
    predictor = TowerPredictor(3, 2, filters=8, repeats=1, groups=2, centerness="box")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(predictor))
    assert type(again) is TowerPredictor and again.get_config() == predictor.get_config()
