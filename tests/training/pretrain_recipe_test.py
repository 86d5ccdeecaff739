import pytest

from tfdet import config
from tfdet.errors import UserError
from tfdet.training.pretrain_recipe import PretrainRecipe


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model.name": "fcos-test"}, "model.name must be that of a CADDet"),
        ({"train.frozen": "stem"}, "train.frozen has no meaning in pre-training"),
        ({"train.gamma_l1": 1e-5}, "train.gamma_l1 has no meaning in pre-training"),
        ({"train.strategy": "multi_worker"}, "pre-training runs on one machine"),
    ],
)
def test_keys_without_effect_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        config.make_recipe(changes={"model.name": "caddet-test", **changes}, kind=PretrainRecipe)


def test_the_model_is_a_caddet_with_changes():
    recipe = config.make_recipe(["model.name=caddet-test"], kind=PretrainRecipe)
    assert recipe.model_config().supernet.layers == 4
    with pytest.raises(UserError, match="widht"):
        config.make_recipe(["model.name=caddet-test,model.widht=3"], kind=PretrainRecipe)
