import keras
import numpy as np
import pytest

from tfdet import registry
from tfdet.errors import UserError


def test_overrides_reach_nested_records():
    config = registry.config("efficientdet-d0", num_classes=3, **{"nms.method": "hard"})
    assert (config.num_classes, config.nms.method) == (3, "hard")
    assert registry.config("efficientdet-d0", nms={"method": "hard"}).nms.method == "hard"


def test_unknown_names_and_keys_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'efficientdet-d0'"):
        registry.create("eficientdet-d0")
    with pytest.raises(UserError, match="did you mean 'num_classes'"):
        registry.config("efficientdet-d0", num_clases=3)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        registry.register("efficientdet-d0", object, None)


def test_models_for_tests_are_listed_only_when_asked_for():
    everything, listed = registry.list_models(test=True), registry.list_models()
    assert "fcos-test" in everything and "fcos-test" not in listed
    assert [name for name in everything if not name.endswith("-test")] == listed
    assert registry.config("fcos-test").image_size == (64, 64)


def test_names_are_grouped_by_the_file_that_registers_them():
    families = registry.families()
    assert families["packdet"] == [name for name in registry.list_models() if "packdet-" in name]
    assert {"efficientdet-d0", "efficientdet-nano"} <= set(families["efficientdet"])
    assert "dy-yolov7" in families["dynamicdet"] and "yolov7" in families["yolov7"]
    assert [name for names in families.values() for name in names] == registry.list_models()


def test_created_models_have_their_variables():
    model = registry.create("efficientdet-test", num_classes=3)
    assert model.built
    raw = model(np.zeros((1, 64, 64, 3), np.uint8))
    assert raw["class_logits"].shape == (1, 774, 3)


def test_the_module_in_front_of_a_name_is_no_part_of_the_variables():
    config = registry.config("efficientdet-test")
    registry.register("elsewhere:mine", registry.detector_class("efficientdet-test"), config)
    try:
        model = registry.create("elsewhere:mine", num_classes=3)
    finally:
        del registry._MODELS["elsewhere:mine"]
    assert model.name == "mine"
    assert all(variable.path.startswith("mine/") for variable in model.weights)


def test_models_are_loaded_from_what_save_wrote(tmp_path):
    model = registry.create("efficientdet-test", num_classes=3)
    model.save(tmp_path / "m.keras")
    loaded = registry.load_model(tmp_path / "m.keras")
    assert loaded.config == model.config
    for own, other in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(own, other)


def test_what_is_no_model_is_told(tmp_path):
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    (tmp_path / "cut.keras").write_bytes(b"PK")
    (tmp_path / "m.pt").write_bytes(b"PK")
    for name, sentence in {
        "other.keras": "holds a Sequential, which is no detector",
        "cut.keras": "cannot be loaded as a model",
        "m.pt": "cannot be loaded as a model",
        "none.keras": "cannot be loaded as a model",
    }.items():
        with pytest.raises(UserError, match=f"{name} {sentence}"):
            registry.load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "usual", "other"),
    [("image_data_format", "channels_last", "channels_first"), ("floatx", "float32", "float16")],
)
def test_what_keras_json_may_set_is_told(name, usual, other):
    change = getattr(keras.config, f"set_{name}")
    change(other)
    try:
        with pytest.raises(UserError, match=f"Keras is set to {name}='{other}', detectors need"):
            registry.create("efficientdet-test")
    finally:
        change(usual)
