import h5py
import keras
import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.weights import reading


def made():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, x)


def test_the_layout_of_keras_applications_gives_layer_and_variable(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv", b"norm"]
        for name in ("conv/conv/kernel:0", "norm/norm/gamma:0"):
            file[name] = np.ones(3, "float32")
    assert list(reading.open_weights(tmp_path / "x.h5").tensors) == ["conv/kernel", "norm/gamma"]


def test_whole_models_and_keras_archives(tmp_path):
    model = made()
    model.save(tmp_path / "x.h5")
    found = reading.open_weights(tmp_path / "x.h5").tensors
    assert {"conv/kernel", "conv/bias", "norm/moving_variance"} < found.keys()
    np.testing.assert_array_equal(found["conv/kernel"], model.layers[1].kernel)
    model.save(tmp_path / "x.keras")
    model.save_weights(tmp_path / "x.weights.h5")
    packed, plain = (
        reading.open_weights(tmp_path / name).tensors for name in ("x.keras", "x.weights.h5")
    )
    assert packed.keys() >= plain.keys()
    for name, tensor in plain.items():
        assert name.rpartition("/")[0].endswith("vars")
        np.testing.assert_array_equal(packed[name], tensor)


def test_arrays_in_other_files_and_too_large_ones_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 400)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/vars/0", (100,), "f4", external=[(str(tmp_path / "secret"), 0, 400)])
    with pytest.raises(UserError, match="lies in another file"):
        reading.open_weights(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("a/vars/0", (10**6, 10**6), "f4", chunks=(100, 100))
    with pytest.raises(UserError, match="claims 1000000000000 values"):
        reading.open_weights(tmp_path / "y.h5")


def test_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["w"] = np.ones(3, "float32")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["here"] = np.ones(3, "float32")
        file["there"] = h5py.ExternalLink("other.h5", "w")
        file["model_weights"] = h5py.ExternalLink("other.h5", "/")
    assert list(reading.open_weights(tmp_path / "x.h5").tensors) == ["here"]
