"""What is special in CADDet."""

import json

import keras
import numpy as np
import pytest

from tfdet import records, registry
from tfdet.errors import UserError

SMALL_NAMES = ["caddet-test", "caddet-retinanet-test"]


def batch(size=64, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (2, size, size, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    labels = np.array([[1, 2], [-1, -1]], np.int32)
    return images, {"boxes": boxes, "labels": labels}


def names():
    return [name for name in registry.list_models() if "caddet" in name or "fpnlite" in name]


def test_the_published_names_are_registered():
    published = {"caddet-fcos", "caddet-retinanet", "caddet-fpnlite-fcos"}
    published |= {
        f"{kind}-fpnlite-{head}"
        for kind in ("mobilenet", "mobilenetv2")
        for head in ("fcos", "retinanet")
    }
    assert published <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_configuration_survives_json(name):
    config = registry.config(name)
    assert (
        records.from_dict(type(config), json.loads(json.dumps(records.to_dict(config)))) == config
    )


@pytest.mark.parametrize("name", SMALL_NAMES)
@pytest.mark.parametrize("head", ["plain", "packed"])
def test_detections_have_the_cost_of_each_image(name, head):
    model = registry.create(name, head=head)
    images, _ = batch()
    gates = np.asarray(model(images)["gates"])
    macs = model.predict(images, verbose=0)["macs"]
    expected = model.floor + model.cost.total * np.asarray(model.cost.hard(gates))
    np.testing.assert_allclose(macs, expected, rtol=1e-6)
    assert np.all(macs > model.floor) and np.all(macs <= model.floor + model.cost.total)


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_a_few_steps_lower_the_loss(name):
    keras.utils.set_random_seed(0)
    model = registry.create(name)
    model.compile(optimizer=keras.optimizers.Adam(0.003))
    data = [model.train_on_batch(*batch(), return_dict=True)["loss"] for _ in range(12)]
    assert data[-1] < 0.8 * data[0]


@pytest.mark.parametrize("size", [(61, 83), (40, 96)])
def test_odd_sizes_run(size):
    model = registry.create("caddet-test", image_size=size)
    assert np.isfinite(model.detect(np.zeros((1, 50, 90, 3), np.uint8))["boxes"]).all()


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_a_saved_model_comes_back_with_equal_outputs(name, tmp_path):
    model = registry.create(name)
    for variable in model.weights:
        variable.assign(variable + 0.01 * keras.random.normal(variable.shape, seed=1))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    images, _ = batch()
    for key, values in model(images).items():
        np.testing.assert_array_equal(again(images)[key], values)


def test_keys_of_other_backbones_are_refused():
    with pytest.raises(UserError, match="backbone of a CADDet is 'supernet'"):
        registry.config("caddet-test", backbone="r50")
    with pytest.raises(UserError, match="frozen_stages of a CADDet is 0"):
        registry.config("caddet-test", frozen_stages=1)
