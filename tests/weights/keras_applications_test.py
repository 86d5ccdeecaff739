"""Backbones of keras.applications, live: the same maps as theirs with seeded weights."""

import keras
import numpy as np
import pytest

from tests.weights import filled
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights.keras_applications import SOURCE, tensors_of


def theirs(name: str, size: tuple[int, int], ends: tuple[str, ...], top: bool = False):
    """A network of keras.applications with seeded weights and what its layers `ends` give."""
    make = getattr(keras.applications, name)
    options = {"include_top": True, "weights": None} if top else {"include_top": False}
    model = make(**{**options, "weights": None}, input_shape=(*size, 3))
    names = [variable.path for variable in model.weights]
    values = filled.arrays(
        {path: tuple(v.shape) for path, v in zip(names, model.weights, strict=True)}
    )
    for variable in model.weights:
        if not variable.path.startswith("normalization"):
            variable.assign(values[variable.path])
    return model, keras.Model(model.input, [model.get_layer(end).output for end in ends])


def images_of(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 255, (1, *size, 3)).astype("float32")


EFFICIENTNET_ENDS = ("block3b_add", "block5c_add", "block7a_project_bn")
RESNET_ENDS = ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out")


@pytest.mark.parametrize("size", [(64, 96), (50, 77)])
def test_efficientnet_gives_the_same_maps(size):
    network, ends = theirs("EfficientNetB0", size, EFFICIENTNET_ENDS)
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
    images = images_of(size)
    # Without ImageNet's weights Keras divides by 255 and no more.
    maps = model.backbone(images / 255)
    for level, expected in zip(("P3", "P4", "P5"), ends(images), strict=True):
        assert filled.relative(maps[level], expected) < 1e-4


@pytest.mark.parametrize("size", [(64, 96), (50, 77)])
def test_resnet_gives_the_same_maps_with_its_biases_taken_off_the_means(size):
    network, ends = theirs("ResNet50", size, RESNET_ENDS)
    tensors = tensors_of(network)
    shapes = {name: array.shape for name, array in tensors.items()}
    settings = SOURCE.settings("fcos-test", shapes)
    assert settings["pixels"] == "caffe"
    model = registry.create("fcos-test", **settings)
    entries = filled.take(model, SOURCE, tensors)
    assert {e.variable.path for e in entries} == {v.path for v in model.backbone.weights}
    images = images_of(size)
    caffe = keras.applications.resnet.preprocess_input(images.copy())
    maps = model.taps(images)
    for level, expected in zip(("P3", "P4", "P5"), ends(caffe), strict=True):
        assert filled.relative(maps[level], expected) < 1e-4


def test_importing_twice_takes_the_biases_off_once():
    network, _ = theirs("ResNet50", (64, 64), RESNET_ENDS)
    tensors = tensors_of(network)
    settings = SOURCE.settings("fcos-test", {k: v.shape for k, v in tensors.items()})
    model = registry.create("fcos-test", **settings)
    filled.take(model, SOURCE, tensors)
    first = model.backbone.stem_bn.moving_mean.numpy()
    filled.take(model, SOURCE, tensors)
    np.testing.assert_array_equal(model.backbone.stem_bn.moving_mean, first)


def test_files_of_keras_2_name_depthwise_kernels_otherwise():
    network, _ = theirs("EfficientNetB0", (64, 64), EFFICIENTNET_ENDS)
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
    with pytest.raises(UserError, match="takes EfficientNets, the weights are of a ResNet"):
        SOURCE.settings("efficientdet-d0", shapes)
    with pytest.raises(UserError, match="those of version 1 can be read"):
        SOURCE.settings("fcos-test", {**shapes, "post_bn/gamma": (2048,)})
