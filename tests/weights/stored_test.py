import os

import h5py
import keras
import numpy as np
import pytest

from tfdet import files
from tfdet.errors import UserError
from tfdet.weights import stored


def made(classes=3):
    keras.utils.set_random_seed(classes)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(8, name="dense"),
        keras.layers.Dense(classes, name="dense_1"),
    ]
    return keras.Sequential(layers, name="model")


@pytest.fixture
def path(tmp_path):
    stored.save(made(), tmp_path / "best.weights.h5")
    return tmp_path / "best.weights.h5"


def test_the_file_is_the_one_that_keras_writes_and_reads(path, tmp_path):
    made().save_weights(tmp_path / "keras.weights.h5")
    with h5py.File(path) as ours, h5py.File(tmp_path / "keras.weights.h5") as theirs:
        names, ours_too = [], []
        theirs.visit(names.append)
        ours.visit(ours_too.append)
        assert names == ours_too
        for name in names:
            assert dict(ours[name].attrs) == dict(theirs[name].attrs)
            if isinstance(theirs[name], h5py.Dataset):
                np.testing.assert_array_equal(ours[name][()], theirs[name][()])
    for source in (path, tmp_path / "keras.weights.h5"):
        one, two = made(), made()
        for model in (one, two):
            model.set_weights([np.zeros_like(w) for w in model.get_weights()])
        stored.load(one, source)
        two.load_weights(source)
        for a, b, wanted in zip(
            one.get_weights(), two.get_weights(), made().get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, wanted)
            np.testing.assert_array_equal(b, wanted)


def test_one_flipped_bit_of_a_value_is_found(path):
    content = bytearray(path.read_bytes())
    place = content.index(made().get_weights()[0].tobytes()) + 9
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: its values are not those that were written"):
        stored.load(made(), path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_cut_file_is_called_damaged(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"best\.weights\.h5 is damaged"):
        stored.load(made(), path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(path, value):
    model = made()
    weights = model.get_weights()
    weights[2][1, 1] = value
    model.set_weights(weights)
    stored.save(model, path)
    with pytest.raises(UserError, match=r"not numbers \(NaN or infinite\) in 1 of 4 arrays, first"):
        stored.load(made(), path)


def test_the_weights_of_other_classes_say_so(path):
    with pytest.raises(UserError) as caught:
        stored.load(made(classes=5), path)
    assert str(caught.value) == (
        f"{path} does not hold the weights of this model: 2 of 4 arrays have another shape, such "
        "as layers/dense_1/vars/1: (3,) in the file, (5,) in the model (other classes or sizes?)"
    )


def test_the_weights_of_another_model_say_so(path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    with pytest.raises(UserError, match="4 of 4 arrays are not in it, such as layers/batch_norm"):
        stored.load(model, path)


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    for name, reason in (("none.weights.h5", "No such file"), ("", "Is a directory")):
        with pytest.raises(UserError, match=rf"cannot be read \({reason}"):
            stored.load(made(), tmp_path / name)


def test_a_disk_without_room_leaves_the_old_file(path, monkeypatch):
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(files.NotWritten, match=r"best\.weights\.h5 could not be written"):
        stored.save(made(), path)
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_P5_a_file_that_may_not_be_read_is_not_called_damaged(path):
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:  # whom nothing is forbidden
        os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
            stored.load(made(), path)
    finally:
        if is_root:
            os.seteuid(0)
