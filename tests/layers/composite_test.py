import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.batch_norm import batch_norm
from tfdet.layers.composite import Composite, checkpointed, on_each


class Inner(Composite):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(4, 3, padding="same", name="conv")
        self.bn = batch_norm("plain", "bn")

    def call(self, maps, training=None):
        return {key: self.bn(self.conv(x), training=training) for key, x in maps.items()}


class Outer(Composite):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = Inner(name="inner")

    def call(self, maps, training=None):
        return self.inner(maps, training=training)


def test_building_makes_the_variables_of_all_parts_under_their_path():
    layer = Outer(name="outer")
    layer.build({"P3": (1, 8, 8, 3), "P4": (1, 4, 4, 3)})
    assert [v.path for v in layer.weights][:3] == [
        "outer/inner/conv/kernel",
        "outer/inner/conv/bias",
        "outer/inner/bn/gamma",
    ]
    assert all(part.built for part in layer._flatten_layers())


def test_symbolic_outputs_have_the_shapes_of_real_ones():
    layer = Outer()
    maps = {"P3": np.ones((2, 8, 6, 3), "float32")}
    symbolic = layer({"P3": keras.KerasTensor((2, 8, 6, 3))})
    assert symbolic["P3"].shape == layer(maps)["P3"].shape == (2, 8, 6, 4)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_weights_are_read_once_for_several_maps_and_their_gradients_add_up(dtype):
    layer = keras.layers.Conv2D(4, 3, dtype=dtype)
    maps = [np.full((1, n, n, 3), n, "float32") for n in (3, 4, 5)]
    assert [x.shape for x in on_each(layer, maps)] == [(1, n, n, 4) for n in (1, 2, 3)]

    def gradients(run):
        with tf.GradientTape() as tape:
            outputs = run(layer, [tf.constant(x) for x in maps])
            loss = tf.add_n([tf.reduce_sum(tf.cast(y, "float32")) for y in outputs])
        return tape.gradient(loss, [v.value for v in layer.weights])

    expected = gradients(lambda layer, maps: [layer(x) for x in maps])
    run = tf.function(lambda: gradients(on_each))
    for ours, slow in zip(run(), expected, strict=True):
        np.testing.assert_allclose(ours, slow, rtol=1e-5)
    operations = run.get_concrete_function().graph.get_operations()
    assert [op.type for op in operations].count("ReadVariableOp") == len(layer.weights)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
def test_checkpointing_changes_neither_gradients_nor_statistics(wrap):
    plain, saving = Inner(), Inner()
    maps = {key: np.random.default_rng(0).normal(size=(2, 4, 4, 3)) for key in ("P3", "P4")}
    maps = {key: tf.constant(x, tf.float32) for key, x in maps.items()}
    for layer in (plain, saving):
        layer(maps)
    saving.set_weights(plain.get_weights())

    def loss(outputs):
        return tf.add_n([tf.reduce_sum(y**3) for y in outputs.values()])

    @wrap
    def gradients(is_saving):
        layer = saving if is_saving else plain

        def run(maps):
            return layer(maps, training=True)

        with tf.GradientTape() as tape:
            value = loss(checkpointed(run, maps) if is_saving else run(maps))
        return tape.gradient(value, [v.value for v in layer.trainable_weights])

    for ours, expected in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)
    for ours, expected in zip(saving.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
