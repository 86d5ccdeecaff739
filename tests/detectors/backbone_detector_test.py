"""A backbone of ten lines in the detectors of the garden."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdet
from tfdet import registry
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.detectors.efficientdet import EfficientDet
from tfdet.detectors.faster_rcnn import FasterRCNN
from tfdet.detectors.fcos import FCOS
from tfdet.detectors.mask_rcnn import MaskRCNN
from tfdet.detectors.retinanet import RetinaNet
from tfdet.detectors.yolov7 import YoloV7
from tfdet.errors import UserError
from tfdet.necks.fpn import FPN


@keras.saving.register_keras_serializable(package="tests")
class Tiny(keras.layers.Layer):
    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.channels = {f"P{level}": width for level in (2, 3, 4, 5)}
        self.convs = [keras.layers.Conv2D(width, 3, 2, "same", activation="relu") for _ in range(5)]

    def call(self, images):
        maps = [images]
        for conv in self.convs:
            maps.append(conv(maps[-1]))
        return {f"P{level}": maps[level] for level in (2, 3, 4, 5)}

    def get_config(self):
        return {**super().get_config(), "width": self.width}


FOUR = {
    "fcos-test": FCOS,
    "retinanet-test": RetinaNet,
    "faster-rcnn-test": FasterRCNN,
    "efficientdet-test": EfficientDet,
}
ALL = {**FOUR, "packdet-test": FCOS, "mask-rcnn-test": MaskRCNN, "yolov7-test": YoloV7}


def make(name, backbone=None, neck=None, head=None, **keys):
    keras.utils.set_random_seed(1)
    config = registry.config(name, num_classes=3, **keys)
    parts = {"backbone": backbone or Tiny(), "neck": neck, **({"head": head} if head else {})}
    model = ALL[name](config, **parts, name="mine")
    model.build_variables()
    return model


def batch(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    labels = np.array([[1, 2], [-1, -1]], np.int32)
    return images, {"boxes": boxes, "labels": labels}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, value in keras.tree.flatten_with_path(expected):
        other = found
        for key in path:
            other = other[key]
        np.testing.assert_allclose(other, value, atol=1e-5, err_msg=str(path))


@pytest.mark.parametrize("name", FOUR)
def test_a_step_lowers_the_loss(name):
    model = make(name)
    images, targets = batch()

    def loss():
        # Regions are sampled by the step of the optimizer, which a loss without a step does not
        # change.
        terms = model.loss_terms(targets, model(images, training=True))
        return float(sum(terms.values()))

    before = loss()
    model.compile(optimizer=keras.optimizers.SGD(1e-3), run_eagerly=True)
    kernels = [conv.kernel.numpy() for conv in model.backbone.convs]
    model.train_on_batch(images, targets)
    model.optimizer.iterations.assign(0)
    assert loss() < before
    for conv, kernel in zip(model.backbone.convs, kernels, strict=True):
        assert np.abs(conv.kernel.numpy() - kernel).max() > 0


@pytest.mark.parametrize("name", ALL)
def test_model_and_weights_survive_saving(name, tmp_path):
    model = make(name)
    for variable in model.trainable_variables:
        variable.assign_add(0.01 * keras.random.normal(variable.shape, seed=2))
    images, _ = batch()
    expected = model(images)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.build_variables()
    clone.set_weights(model.get_weights())
    for other in (loaded, clone):
        assert type(other.backbone) is Tiny
        assert_equal(other(images), expected)
    clone.set_weights([0 * value for value in model.get_weights()])
    clone.load_weights(tmp_path / "model.weights.h5")
    assert_equal(clone(images), expected)


def test_the_export_detects_the_same(tmp_path):
    model = make("fcos-test", nms={"class_threshold": 0.0})
    tfdet.export(model, str(tmp_path / "served"))  # compares in a new process
    images, _ = batch()
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    found = served(images=tf.constant(images))
    assert np.all(found["count"] > 0)
    assert_equal(found, model.detect(images))


@pytest.mark.parametrize("name", ["fcos-test", "yolov7-test"])
def test_the_profile_counts_it(name):
    counts = tfdet.profile(make(name)).parts
    macs = sum(9 * c * 8 * (64 >> i) ** 2 for i, c in ((1, 3), (2, 8), (3, 8), (4, 8), (5, 8)))
    assert (counts["backbone"].parameters, counts["backbone"].macs) == (9 * 8 * 35 + 5 * 8, macs)
    assert "other" not in counts


def test_only_what_was_passed_in_is_stored():
    assert set(make("fcos-test").get_config()) == {"config", "name", "backbone"}
    assert set(registry.create("fcos-test").get_config()) == {"config", "name"}


def test_a_functional_model_is_a_backbone(tmp_path):
    """Its levels follow from its outputs; what is no level is left alone."""
    images = keras.Input((None, None, 3))
    layers = keras.layers
    x = layers.Conv2D(8, 3, 4, "same", name="stem")(images)
    maps = {}
    for level in (3, 4, 5):
        x = maps[f"P{level}"] = layers.Conv2D(8, 3, 2, "same", name=f"conv_{level}")(x)
    maps["mean"] = layers.GlobalAveragePooling2D()(x)
    model = make("efficientdet-test", keras.Model(images, maps, name="mine"))
    assert model.tap_channels == {"P3": 8, "P4": 8, "P5": 8}
    assert tfdet.profile(model).parts["backbone"].macs > 0
    pixels, targets = batch()
    model.compile(optimizer=keras.optimizers.SGD(1e-3), run_eagerly=True)
    model.train_on_batch(pixels, targets)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(loaded(pixels), model(pixels))


def test_the_merged_form_has_the_same_backbone():
    model = make("yolov7-test")
    images, _ = batch()
    merged = model.for_inference()
    assert merged is not model and merged.backbone is model.backbone
    np.testing.assert_allclose(
        merged(images)["object_logits"], model(images)["object_logits"], atol=1e-4
    )


def test_it_can_be_the_first_of_a_cascade_but_not_the_second():
    first = make("fcos-test")
    second = registry.create("fcos-test", num_classes=3, backbone="resnet-test")
    model = DynamicDetector(first, second)
    model.build_variables()
    images, _ = batch()
    assert model.second_taps(images, first.taps(images))["P3"].shape == (2, 8, 8, 64)
    with pytest.raises(UserError, match="cannot be the second of a cascade: it has no `joint_ch"):
        DynamicDetector(second, first)


def test_neck_and_head_can_be_passed_in_too(tmp_path):
    published = registry.create("fcos-test", num_classes=3)
    parts = {name: getattr(published, name) for name in ("neck", "head")}
    copies = {name: type(part).from_config(part.get_config()) for name, part in parts.items()}
    model = make("fcos-test", **copies)
    assert model.neck is copies["neck"] and model.head is copies["head"]
    model.save(tmp_path / "model.keras")
    images, _ = batch()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(loaded(images), model(images))
    assert set(loaded.get_config()) == {"config", "name", "backbone", "neck", "head"}


class Wrong(Tiny):
    """Its channels are those of a `Tiny`; its maps are what a test says."""

    def __init__(self, maps, levels=(2, 3, 4, 5)):
        super().__init__()
        self.wrong = maps
        self.channels = {f"P{level}": 8 for level in levels}

    def call(self, images):
        return self.wrong(super().call(images))


@pytest.mark.parametrize(
    ("name", "backbone", "message"),
    [
        ("fcos-test", "r50", "backbone must be a Keras layer, got str"),
        ("fcos-test", keras.layers.Dense(3), "Dense has none"),
        (
            "faster-rcnn-test",
            Wrong(dict, (3, 4, 5)),
            "FasterRCNN needs the levels P2, P3, P4, P5 of its backbone, this one has P3, P4, P5",
        ),
        ("efficientdet-test", Wrong(dict, (3, 4)), "EfficientDet needs .* return P5 too"),
        ("yolov7-test", Wrong(dict, (2,)), "YoloV7 needs the levels P3, P4, P5"),
        ("retinanet-test", Wrong(dict, (2, 4)), "RetinaNet needs the levels P3, P4 .* P2, P4;"),
        ("fcos-test", Wrong(lambda maps: maps["P3"]), "backbone must return a dict of maps"),
        (
            "fcos-test",
            Wrong(lambda maps: {**maps, "P3": maps["P2"]}),
            r"P3 of the backbone must have shape \[any, 8, 8, 8\] for images of 64x64, got "
            r"\[1, 16, 16, 8\]",
        ),
        (
            "fcos-test",
            Wrong(lambda maps: {name: maps[name] for name in ("P3", "P4")}),
            "backbone must return P2, P3, P4, P5, it returned P3, P4",
        ),
    ],
)
def test_mistakes_are_named(name, backbone, message):
    with pytest.raises(UserError, match=message):
        make(name, backbone)


def test_a_neck_without_a_level_is_refused():
    neck = keras.layers.Identity()
    with pytest.raises(UserError, match="neck must return P3, P4, P5, P6, P7, it returned P3, P4"):
        make("fcos-test", neck=neck)


def test_the_order_of_a_necks_maps_does_not_matter():
    class Backwards(FPN):
        def call(self, features, training=None):
            return dict(reversed(super().call(features, training).items()))

    images, _ = batch()
    necks = [kind(12, name="neck") for kind in (FPN, Backwards)]
    models = [make("retinanet-test", neck=neck) for neck in necks]
    models[1].set_weights(models[0].get_weights())
    assert_equal(models[1](images), models[0](images))


def test_keys_of_published_parts_are_refused_with_others():
    with pytest.raises(UserError, match="borrows_p2 needs the published backbone"):
        make("yolov7-test", borrows_p2=True)
    with pytest.raises(UserError, match="auxiliary_heads need the published neck"):
        make("yolov7-test", neck=FPN(8), variant="w6", auxiliary_heads=True)
