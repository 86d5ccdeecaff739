import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdet
from tfdet.detectors import batch_check

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a TensorFlow step")
IMAGES = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.float32)
BOXES = np.array([[[5, 5, 30, 30], [10, 20, 50, 60]]] * 2, np.float32)
LABELS = np.array([[0, 1]] * 2, np.int32)


@pytest.fixture(scope="module")
def detector():
    model = tfdet.create("fcos-test", num_classes=3, image_size=(64, 64))
    model.compile("adam")
    return model


def step(images=IMAGES, targets=None, mask_size=0, **changes):
    targets = {"boxes": BOXES, "labels": LABELS} | changes if targets is None else targets
    return batch_check.checked_step((images, targets), (64, 64), 3, mask_size)


def test_a_right_batch_stays_as_it_is():
    images, targets = step(labels=LABELS.astype(np.float32), is_crowd=LABELS > 5)
    assert images is IMAGES and set(targets) == {"boxes", "labels", "is_crowd"}
    np.testing.assert_array_equal(targets["labels"], LABELS)


def test_no_boxes_are_right():
    step(boxes=np.zeros((2, 0, 4)), labels=np.zeros((2, 0)))
    step(boxes=np.full((2, 1, 4), np.nan), labels=np.full((2, 1), -1))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"boxes": BOXES[:, 0]}, r"targets\['boxes'\] must be \[B, M, 4\], got \[2, 4\]"),
        ({"boxes": np.zeros((2, 2, 5))}, r"must be \[B, M, 4\], got \[2, 2, 5\]; boxes are xyxy"),
        ({"labels": LABELS[:, 0]}, r"targets\['labels'\] must be \[B, M\], got \[2\]"),
        ({"labels": np.eye(3)[LABELS]}, r"must be \[B, M\], got \[2, 2, 3\]"),
        ({"labels": LABELS[:, :1]}, r"as many rows, M, each; got boxes \[2, 2, 4\], labels \[2, 1"),
        ({"targets": None}, "must be a dict with boxes, labels"),
        ({"targets": (BOXES, LABELS)}, "must be a dict with boxes, labels, got a tuple"),
        ({"targets": {"boxes": BOXES, "classes": LABELS}}, "'classes' must be called 'labels'"),
        ({"mask_size": 28}, "'masks' is missing among"),
        ({"images": IMAGES[0]}, r"got \[64, 64, 3\]; images\[None\] makes a batch of one"),
        ({"images": IMAGES[..., :1]}, "grey images need their channel three times"),
        ({"images": np.zeros((2, 3, 64, 64))}, "the channels must be last"),
        ({"images": np.zeros((2, 32, 64, 3))}, "expected images of 64x64 pixels, got"),
        ({"images": {"boxes": BOXES}}, "expected images .* and targets, in this order"),
    ],
)
def test_shapes_are_told(changes, sentence):
    if "targets" in changes and changes["targets"] is None:
        with pytest.raises(tfdet.UserError, match=sentence):
            batch_check.checked_step(IMAGES, (64, 64), 3, 0)
        return
    with pytest.raises(tfdet.UserError, match=sentence):
        step(**changes)


def test_weights_of_samples_are_refused():
    data = (IMAGES, {"boxes": BOXES, "labels": LABELS}, np.ones(2))
    with pytest.raises(tfdet.UserError, match="neither sample_weight nor class_weight"):
        batch_check.checked_step(data, (64, 64), 3, 0)


VALUES = [
    ({"labels": LABELS + 2}, "labels must be 0 to 2, and -1 for padding; got 2 to 3"),
    ({"labels": LABELS - 2}, "and -1 for padding; got -2 to -1"),
    ({"boxes": BOXES / 64}, "in pixels of the images; got a batch of boxes from 0 to 1"),
    ({"boxes": BOXES[..., [2, 3, 0, 1]]}, "xyxy; got some whose right or lower side comes first"),
    ({"boxes": BOXES * np.nan}, "boxes must be finite"),
]


@pytest.mark.parametrize(("changes", "sentence"), VALUES)
def test_values_are_told_eagerly(changes, sentence):
    with pytest.raises(tfdet.UserError, match=sentence), batch_check.telling():
        step(**changes)


@pytest.mark.parametrize(("changes", "sentence"), VALUES)
def test_values_of_arrays_are_told_by_fit(detector, changes, sentence):
    with pytest.raises(tfdet.UserError, match=sentence):
        detector.fit(IMAGES, {"boxes": BOXES, "labels": LABELS} | changes, verbose=0)


def test_values_are_told_within_the_steps_of_fit_and_evaluate(detector):
    targets = {"boxes": BOXES, "labels": LABELS + 2}
    for run in (detector.fit, detector.evaluate):
        with pytest.raises(tfdet.UserError, match=r"labels must be 0 to 2.*; got 2 to 3"):
            run(tf.data.Dataset.from_tensors((IMAGES, targets)), verbose=0)


def test_ragged_boxes_are_told_to_be_padded():
    boxes = tf.ragged.constant([[[1.0, 2, 30, 40]], []], ragged_rank=1)
    with pytest.raises(tfdet.UserError, match=r"'boxes'\] is ragged; pad it, .*to_tensor\(0\)"):
        step(boxes=boxes)


def test_a_loss_and_metrics_are_refused(detector):
    targets = {"boxes": BOXES, "labels": LABELS}
    for arguments in ({"loss": "mse"}, {"metrics": ["accuracy"]}):
        detector.compile("adam", **arguments)
        with pytest.raises(tfdet.UserError, match=f"compile was given {next(iter(arguments))}"):
            detector.fit(IMAGES, targets, verbose=0)
    detector.compile("adam")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (IMAGES[0], r"images\[None\] makes a batch of one"),
        (np.zeros((1, 8, 8, 4)), "is without alpha"),
        ([np.zeros((8, 8, 3)), np.zeros((9, 9, 3))], "of one size, got some of different sizes"),
        ("photo.jpg", r"expected images \[B, H, W, 3\], got str"),
        (None, "got NoneType"),
        (np.zeros((1, 0, 5, 3)), "at least one image with pixels"),
        (np.zeros((0, 5, 5, 3)), "at least one image with pixels"),
        (np.zeros((1, 8, 8, 3), bool), "of numbers from 0 to 255, got the dtype bool"),
    ],
)
def test_what_are_no_images_is_told(detector, images, sentence):
    with pytest.raises(tfdet.UserError, match=sentence):
        detector.detect(images)


def test_fractions_are_warned_of():
    with pytest.warns(UserWarning, match="multiply them by 255"):
        batch_check.warn_of_fractions(IMAGES / 255)
    batch_check.warn_of_fractions(IMAGES * 0)
    batch_check.warn_of_fractions(IMAGES)
