"""The three parts of distillation, against sums written out by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from tfdet.errors import UserError
from tfdet.losses.distillation import (
    DistillConfig,
    box_errors,
    class_errors,
    distillation_loss_terms,
    feature_errors,
)
from tfdet.losses.roi import Samples

LOG = np.log


def samples(labels=((1, -1, 0),), is_sampled=((True, True, True),)):
    labels, is_sampled = np.array(labels, np.int32), np.array(is_sampled)
    shape = labels.shape
    boxes = np.zeros((*shape, 4), np.float32)
    return Samples(boxes, labels, boxes, np.zeros(shape, np.int32), is_sampled)


def predictions(seed, shape=(1, 3), classes=2, width=5):
    rng = np.random.default_rng(seed)
    return {
        "features": rng.normal(size=(*shape, 7, 7, width)).astype(np.float32),
        "class_logits": rng.normal(size=(*shape, classes + 1)).astype(np.float32),
        "box_codes": rng.normal(size=(*shape, 4 * classes)).astype(np.float32),
    }


def terms(student, teacher, chosen=None, **config):
    found = distillation_loss_terms(student, teacher, chosen or samples(), DistillConfig(**config))
    return {name: float(value) for name, value in found.items()}


def test_feature_error_is_the_mean_square():
    student = np.zeros((1, 2, 7, 7, 4), np.float32)
    teacher = student.copy()
    teacher[0, 0] = 2.0
    teacher[0, 1, 0, 0, 0] = 7.0
    wanted = [[4.0, 49 / (7 * 7 * 4)]]
    np.testing.assert_allclose(np.array(feature_errors(student, teacher)), wanted)


def test_class_error_is_the_divergence_with_background():
    student = LOG([[[0.5, 0.25, 0.25]]])
    teacher = LOG([[[0.25, 0.25, 0.5]]])
    wanted = 0.25 * LOG(0.5) + 0.25 * LOG(1.0) + 0.5 * LOG(2.0)
    np.testing.assert_allclose(np.array(class_errors(student, teacher)), [[wanted]], rtol=1e-6)


def test_temperature_softens_both_and_scales_by_its_square():
    student, teacher = 2 * LOG([[[0.5, 0.25, 0.25]]]), 2 * LOG([[[0.25, 0.25, 0.5]]])
    soft = class_errors(student / 2, teacher / 2)
    np.testing.assert_allclose(
        np.array(class_errors(student, teacher, 2.0)), 4 * np.array(soft), rtol=1e-6
    )


# Codes of two classes: off by 1 + 2 + 3 + 4 = 10 for class 0, by 4 * 0.5 = 2 for class 1.
OFF = np.array([1, -2, 3, -4, 0.5, 0.5, -0.5, 0.5], np.float32)


@pytest.mark.parametrize(
    ("kind", "label", "wanted"),
    [
        ("plain", 1, (10 + 2) / 2),
        ("class_aware", 1, 0.2 * 10 + 0.5 * 2),
        ("object_class", 1, 2),
        ("object_class", 0, 10),
        ("object_class", -1, 0),
        ("teacher_class", 0, 2),  # the teacher believes in class 1
    ],
)
def test_box_error_by_hand(kind, label, wanted):
    logits = LOG([[[0.2, 0.5, 0.3]]]).astype(np.float32)
    student = {"box_codes": OFF[None, None]}
    teacher = {"box_codes": np.zeros((1, 1, 8), np.float32), "class_logits": logits}
    found = box_errors(student, teacher, np.array([[label]], np.int32), kind)
    np.testing.assert_allclose(np.array(found), [[wanted]], rtol=1e-6)


def test_readings_of_class_aware_coincide_for_a_sure_teacher():
    chosen = samples()
    student, teacher = predictions(0), predictions(1)
    teacher["class_logits"] = np.full((1, 3, 3), -200, np.float32)
    for row, label in enumerate((1, 2, 0)):  # background is the last class
        teacher["class_logits"][0, row, label] = 200
    found = [
        np.array(box_errors(student, teacher, chosen.labels, kind))
        for kind in ("class_aware", "object_class", "teacher_class")
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)
    assert found[0][0, 1] == 0


@pytest.mark.parametrize("kind", ["class_aware", "plain", "object_class", "teacher_class"])
def test_equal_predictions_give_zero(kind):
    same = predictions(3)
    assert terms(same, dict(same), box=kind) == dict.fromkeys(DistillConfig().terms, 0.0)


def test_only_sampled_regions_count_and_weights_multiply():
    student, teacher = predictions(0), predictions(1)
    some = samples(is_sampled=((True, False, True),))
    rows = [0, 2]
    found = terms(student, teacher, some, feature_weight=10.0, class_weight=2.0, box_weight=0.5)
    wanted = {
        "distill_feature_loss": 10
        * np.array(feature_errors(student["features"], teacher["features"]))[0, rows].sum(),
        "distill_class_loss": 2
        * np.array(class_errors(student["class_logits"], teacher["class_logits"]))[0, rows].sum(),
        "distill_box_loss": 0.5
        * np.array(box_errors(student, teacher, some.labels, "class_aware"))[0, rows].sum(),
    }
    assert found == pytest.approx({k: v / 2 for k, v in wanted.items()}, rel=1e-5)


def test_no_region_gives_zero():
    none = samples(is_sampled=((False,) * 3,))
    assert set(terms(predictions(0), predictions(1), none).values()) == {0.0}


def test_gradient_goes_to_the_student_alone():
    tf = pytest.importorskip("tensorflow")
    student, teacher = (
        {name: tf.Variable(value) for name, value in predictions(seed).items()} for seed in (0, 1)
    )
    with tf.GradientTape() as tape:
        parts = distillation_loss_terms(student, teacher, samples(), DistillConfig())
        loss = ops.sum(ops.stack(list(parts.values())))
    found = tape.gradient(loss, {"student": student, "teacher": teacher})
    assert all(np.any(g.numpy()) for g in found["student"].values())
    assert found["teacher"] == dict.fromkeys(teacher)


def test_parts_without_weight_are_left_out():
    config = DistillConfig(feature_weight=0, box_weight=0)
    assert config.terms == ("distill_class_loss",)
    student = {"class_logits": predictions(0)["class_logits"]}
    teacher = {"class_logits": predictions(1)["class_logits"]}
    assert list(distillation_loss_terms(student, teacher, samples(), config)) == list(config.terms)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_weight": -1.0}, "distill.box_weight must be at least 0"),
        ({"feature_weight": 0, "class_weight": 0, "box_weight": 0}, "needs one of"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        DistillConfig(**changes)


def test_float16_predictions_are_compared_in_float32():
    student, teacher = predictions(0), predictions(1)
    half = [{k: v.astype(np.float16) for k, v in x.items()} for x in (student, teacher)]
    found = distillation_loss_terms(*half, samples(), DistillConfig())
    assert {keras.backend.standardize_dtype(x.dtype) for x in found.values()} == {"float32"}
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        terms(student, teacher), rel=5e-3
    )
