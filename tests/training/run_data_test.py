import numpy as np
import pytest

from tfdet import config, registry
from tfdet.errors import UserError
from tfdet.training.run_data import open_data


def recipe(hparams=""):
    base = "model.name=fcos-test,train.batch_size=2,data.train='shapes:train:6'"
    return config.make_recipe([base, *([hparams] if hparams else [])])


def test_the_classes_of_the_data_stand_in_the_recipe():
    data = open_data(recipe("data.val='shapes:val:4'"), None)
    assert data.recipe.model["num_classes"] == 5 and data.recipe.model["class_names"][0] == "circle"
    assert (data.steps_per_epoch, len(data.val)) == (3, 4)
    assert open_data(recipe("data.val='shapes:val:4'"), None, measure=False).val is None


def test_batches_go_on_from_any_step_and_name_their_images():
    data, detector = open_data(recipe(), None), registry.create("fcos-test")
    first = [images.numpy() for images, _ in data.first_batches(detector, 3)]
    assert len(first) == 3 and first[0].shape == (2, *detector.image_size, 3)
    later = next(iter(data.shared_batches(detector, 2)))[0]
    np.testing.assert_array_equal(later, first[2])
    named = [name for step in range(3) for name in data.files_of_step(step)]
    assert len(set(named)) == 6  # an epoch sees each image once
    assert all(name.startswith("image ") for name in named)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("data.train=''", "no training data"),
        ("train.batch_size=7", "has 6 images, fewer than one batch of 7"),
        ("model.num_classes=4", r"model.num_classes is 4, but .* has 5 classes"),
    ],
)
def test_mistakes_are_told(hparams, message):
    with pytest.raises(UserError, match=message):
        open_data(recipe(hparams), None)
