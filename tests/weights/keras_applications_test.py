"""Backbones of keras.applications, live: the same maps as theirs with seeded weights."""

import keras
import numpy as np
import pytest

from tests.weights import filled, foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights.keras_applications import SOURCE


def tensors_of(network):
    """The tensors of a model of `keras.applications` as its .h5 file has them."""
    return {
        "/".join(variable.path.split("/")[-2:]): keras.ops.convert_to_numpy(variable)
        for layer in network.layers
        for variable in layer.weights
    }


def theirs(name: str, images: np.ndarray, ends: tuple[str, ...]):
    """A network of keras.applications with seeded weights and what its layers `ends` give."""
    make = getattr(keras.applications, name)
    model = make(include_top=False, weights=None, input_shape=images.shape[1:])
    names = [variable.path for variable in model.weights]
    values = filled.arrays(
        {path: tuple(v.shape) for path, v in zip(names, model.weights, strict=True)}
    )
    for variable in model.weights:
        if not variable.path.startswith("normalization"):
            variable.assign(values[variable.path])
    _settle(model, images)
    return model, keras.Model(model.input, [model.get_layer(end).output for end in ends])


def _settle(model: keras.Model, images: np.ndarray) -> None:
    """Gives each batch norm statistics near those of what it sees.

    With others a deep network forgets its image, or makes numbers of any size of it.
    """
    random = np.random.default_rng(4)

    def watched(norm, call):
        def run(x, **options):
            mean, variance = (y.numpy() for y in keras.ops.moments(x, axes=(0, 1, 2)))
            shift = random.uniform(-0.3, 0.3, mean.shape) * np.sqrt(variance)
            norm.moving_mean.assign(mean + shift)
            floored = np.maximum(variance, variance.mean() / 4)
            norm.moving_variance.assign(floored * random.uniform(0.7, 1.4, mean.shape))
            return call(x, **options)

        return run

    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.call = watched(norm, norm.call)
    model(images)
    for norm in norms:
        del norm.call


def assert_equal(level, expected) -> None:
    """Equal maps, in which the image matters."""
    expected = np.asarray(expected)
    assert expected.std(axis=(1, 2)).mean() > 0.01 * np.abs(expected).max()
    assert foreign.difference(level, expected) < 1e-4


def images_of(size: tuple[int, int]) -> np.ndarray:
    return filled.images(4, size)


EFFICIENTNET_ENDS = ("block3b_add", "block5c_add", "block7a_project_bn")
RESNET_ENDS = ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out")


@pytest.mark.parametrize("size", [(96, 128), (82, 109)])
def test_efficientnet_gives_the_same_maps(size):
    images = images_of(size)
    network, ends = theirs("EfficientNetB0", images, EFFICIENTNET_ENDS)
    tensors = tensors_of(network)
    shapes = {name: array.shape for name, array in tensors.items()}
    assert SOURCE.recognises(shapes) and SOURCE.backbone_only(shapes)
    settings = SOURCE.settings("efficientdet-test", shapes)
    assert settings == {"backbone": "b0", "pixels": "imagenet", "activation": "swish"}
    model = registry.create("efficientdet-test", **settings)
    entries = filled.take(model, SOURCE, tensors)
    filled.assert_filled_once(entries, model.backbone.weights)
    unused = {entry.name for entry in entries if entry.variable is None}
    assert {name.partition("/")[0].partition("_")[0] for name in unused} == {"normalization", "top"}
    # Without ImageNet's weights Keras divides by 255 and no more.
    maps = model.backbone(images / 255)
    for level, expected in zip(("P3", "P4", "P5"), ends(images), strict=True):
        assert_equal(maps[level], expected)


@pytest.mark.parametrize("size", [pytest.param((96, 128), marks=pytest.mark.slow), (82, 109)])
def test_resnet_gives_the_same_maps_with_its_biases_taken_off_the_means(size):
    images = images_of(size)
    caffe = keras.applications.resnet.preprocess_input(images.copy())
    network, ends = theirs("ResNet50", caffe, RESNET_ENDS)
    tensors = tensors_of(network)
    shapes = {name: array.shape for name, array in tensors.items()}
    settings = SOURCE.settings("fcos-test", shapes)
    assert settings["pixels"] == "caffe"
    model = registry.create("fcos-test", **settings)
    entries = filled.take(model, SOURCE, tensors)
    assert {e.variable.path for e in entries} == {v.path for v in model.backbone.weights}
    maps = model.taps(images)
    for level, expected in zip(("P3", "P4", "P5"), ends(caffe), strict=True):
        assert_equal(maps[level], expected)


@pytest.mark.parametrize(
    ("theirs_name", "backbone", "ends"),
    [
        ("MobileNet", "mnv1-keras", ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu")),
        ("MobileNetV2", "mnv2-keras", ("block_5_add", "block_12_add", "block_16_project_BN")),
        ("MobileNetV2", "mnv2-keras-1280", ("block_5_add", "block_12_add", "out_relu")),
    ],
)
@pytest.mark.parametrize("size", [(96, 128), pytest.param((160, 96), marks=pytest.mark.slow)])
def test_mobilenets_give_the_same_maps(theirs_name, backbone, ends, size):
    images = images_of(size)
    signed = keras.applications.mobilenet.preprocess_input(images.copy())
    network, levels = theirs(theirs_name, signed, ends)
    tensors = tensors_of(network)
    shapes = {name: array.shape for name, array in tensors.items()}
    settings = SOURCE.settings("fcos-test", shapes)
    assert settings["backbone"] == backbone.removesuffix("-1280")
    assert (settings["pixels"], settings["frozen_stages"]) == ("signed", 0)
    model = registry.create("fcos-test", **{**settings, "backbone": backbone})
    entries = filled.take(model, SOURCE, tensors)
    filled.assert_filled_once(entries, model.backbone.weights)
    for level, expected in zip(model.taps(images).values(), levels(signed), strict=True):
        assert_equal(level, expected)


def test_mobilenets_of_other_padding_or_width_are_refused():
    make = keras.applications.MobileNetV2
    network = make(weights=None, include_top=False, input_shape=(64, 64, 3))
    shapes = {name: array.shape for name, array in tensors_of(network).items()}
    model = registry.create("fcos-test", backbone="mnv2", pixels="signed")
    with pytest.raises(UserError, match="with TensorFlow's padding, the model has mnv2; set"):
        SOURCE.entries(model, shapes)
    network = make(weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.35)
    narrow = {name: array.shape for name, array in tensors_of(network).items()}
    with pytest.raises(UserError, match="has 112 channels where they have 320"):
        SOURCE.settings("fcos-test", narrow)


def test_importing_twice_takes_the_biases_off_once():
    network, _ = theirs("ResNet50", images_of((64, 64)), RESNET_ENDS)
    tensors = tensors_of(network)
    settings = SOURCE.settings("fcos-test", {k: v.shape for k, v in tensors.items()})
    model = registry.create("fcos-test", **settings)
    filled.take(model, SOURCE, tensors)
    first = model.backbone.stem_bn.moving_mean.numpy()
    filled.take(model, SOURCE, tensors)
    np.testing.assert_array_equal(model.backbone.stem_bn.moving_mean, first)


def test_files_of_keras_2_name_depthwise_kernels_otherwise():
    network, _ = theirs("EfficientNetB0", images_of((64, 64)), EFFICIENTNET_ENDS)
    tensors = {
        name.replace("dwconv/kernel", "dwconv/depthwise_kernel"): array
        for name, array in tensors_of(network).items()
    }
    model = registry.create("efficientdet-test", backbone="b0")
    filled.assert_filled_once(filled.take(model, SOURCE, tensors), model.backbone.weights)


def test_other_functions_are_refused():
    network = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3))
    shapes = {name: array.shape for name, array in tensors_of(network).items()}
    with pytest.raises(UserError, match=r"the model has .*3x3, epsilon 1e-05: create it with"):
        SOURCE.entries(registry.create("fcos-test", backbone="resnet-test"), shapes)
    settings = SOURCE.settings("fcos-test", shapes)
    wrong = registry.create("fcos-test", **{**settings, "pixels": "imagenet"})
    with pytest.raises(UserError, match="another function; set pixels: caffe"):
        SOURCE.entries(wrong, shapes)
    with pytest.raises(UserError, match="takes EfficientNets, the weights are of another backbone"):
        SOURCE.settings("efficientdet-d0", shapes)
    with pytest.raises(UserError, match="those of version 1 can be read"):
        SOURCE.settings("fcos-test", {**shapes, "post_bn/gamma": (2048,)})
