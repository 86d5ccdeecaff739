import keras
import numpy as np
import pytest

from tests.ops import pack_cases
from tfdet.layers.pack import Pack, Unpack
from tfdet.ops import pack as pack_ops

SIZES = pack_cases.level_sizes(128, 128)


@pytest.fixture(params=["portable", "native"], autouse=True)
def form(request, monkeypatch):
    if request.param == "native":
        pack_cases.require_native()
    monkeypatch.setenv("TFDET_PACK", request.param)


def test_unpacking_undoes_packing_in_a_functional_model():
    layout = pack_ops.layout(SIZES, "m4")
    inputs = [keras.Input((h, w, 3)) for h, w in layout.sizes]
    packed = Pack("m4")(inputs)
    assert packed.shape == (None, layout.height, layout.width, 3)
    outputs = Unpack("m4")(packed, sizes=SIZES)
    assert [x.shape for x in outputs] == [x.shape for x in inputs]
    model = keras.Model(inputs, outputs)
    maps = pack_cases.random_maps(layout)
    for x, y in zip(maps, model(maps), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_head_behind_it_learns():
    layout = pack_ops.layout(SIZES, 3)
    inputs = keras.Input((*SIZES[0], 2))
    maps = [inputs, *[keras.layers.AveragePooling2D(2**i)(inputs) for i in range(1, 5)]]
    maps = [keras.layers.Conv2D(4, 1)(x) for x in maps]
    outputs = keras.layers.Conv2D(1, 3, padding="same")(Pack(3)(maps))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    random = np.random.default_rng(0)
    x = random.normal(size=(4, *SIZES[0], 2)).astype("float32")
    y = np.zeros((4, layout.height, layout.width, 1), "float32")
    losses = model.fit(x, y, epochs=10, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    before = model.layers[6].kernel.numpy()
    model.fit(x, y + 1, epochs=1, batch_size=4, verbose=0)
    assert (before != model.layers[6].kernel.numpy()).any()


def test_half_precision_stays_half():
    layout = pack_ops.layout(SIZES, 2)
    maps = pack_cases.random_maps(layout)
    packed = Pack(2, dtype="mixed_float16")(maps)
    assert packed.dtype == "float16"
    assert {x.dtype.name for x in Unpack(2, dtype="mixed_float16")(packed, sizes=SIZES)} == {
        "float16"
    }


def test_layers_are_restored_from_their_configuration():
    for layer in (Pack("type-2"), Unpack("m5")):
        config = keras.saving.serialize_keras_object(layer)
        again = keras.saving.deserialize_keras_object(config)
        assert again.pattern == layer.pattern and again.pattern in (2, 5)
