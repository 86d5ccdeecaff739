"""A student with its teacher: what is computed, what is trained, and what is kept."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.nas import teacher_cases
from tfdet import config
from tfdet.errors import UserError
from tfdet.losses import feature_masks
from tfdet.losses.distillation import DistillConfig
from tfdet.nas import distill
from tfdet.nas.depth import dirac
from tfdet.nas.weights import take_weights
from tfdet.ops.anchors import anchor_levels
from tfdet.ops.anchors import anchors as box_anchors
from tfdet.training import fitting, trained, trainer


@pytest.fixture(scope="module")
def twins():
    # Frozen, for a teacher is in inference mode.
    student = teacher_cases.detector(batch_norm="frozen")
    return student, teacher_cases.same_as(student)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapt": "regions"},
        {"adapt": "maps"},
        {"feature_mask": "whole"},
        {"feature_mask": "anchors"},
        {"feature_mask": "gaussian"},
    ],
    ids=lambda changes: "-".join(changes.values()),
)
def test_equal_networks_teach_nothing(twins, changes):
    student, teacher = twins
    model = distill.Distilled(student, teacher, DistillConfig(**changes))
    width = student.config.fpn_width
    assert any(teacher_cases.loss_terms(model)[name] > 0 for name in model.distillation.terms)
    model.adapter.kernel.assign(dirac(3, width, width))
    terms = teacher_cases.loss_terms(model)
    assert {terms[name] for name in model.distillation.terms} == {0.0}
    alone = {name: float(value) for name, value in _own_terms(student).items()}
    assert {name: terms[name] for name in alone} == alone


def _own_terms(student):
    images, targets = teacher_cases.batch()
    return student.loss_terms(targets, student(images, training=True))


def test_teacher_looks_at_the_students_samples():
    student, teacher = teacher_cases.detector(0), teacher_cases.detector(1)
    model = distill.Distilled(student, teacher, DistillConfig())
    images, targets = teacher_cases.batch()
    raw = model(images, training=True)
    samples = student.sampled(targets, raw)["samples"]
    maps = teacher(images, training=False)["maps"]
    theirs = teacher.box_head(teacher.align(maps, samples.boxes))
    ours = student.box_head(student.align(raw["maps"], samples.boxes))
    p, q = (np.array(keras.ops.softmax(x["class_logits"]), np.float64) for x in (theirs, ours))
    divergence = np.sum(p * (np.log(p) - np.log(q)), axis=-1)
    wanted = divergence[np.array(samples.is_sampled)].mean()
    assert teacher_cases.loss_terms(model)["distill_class_loss"] == pytest.approx(wanted, rel=1e-4)


@pytest.fixture(scope="module")
def pair():
    return teacher_cases.detector(0), teacher_cases.detector(1, fpn_width=12)


# A canvas of 48 as an elastic student has one.
@pytest.mark.parametrize(("kind", "size"), [("whole", 64), ("anchors", 48), ("gaussian", 48)])
def test_masks_choose_cells_of_the_maps(pair, kind, size):
    student, teacher = pair
    config = DistillConfig(feature_mask=kind, feature_weight=3.0, class_weight=0, box_weight=0)
    model = distill.Distilled(student, teacher, config)
    images, targets = teacher_cases.batch(size=size)
    maps, theirs = model(images, training=True)["maps"], teacher.pyramid(images, training=False)
    ours = {level: np.array(model.adapter(maps[f"P{level}"])) for level in (2, 3, 4, 5)}
    errors = [np.mean((x - theirs[f"P{i}"]) ** 2, axis=-1) for i, x in ours.items()]
    shapes = {level: x.shape[1:3] for level, x in ours.items()}
    mask = np.ones((2, sum(height * width for height, width in shapes.values())))
    if kind == "gaussian":
        mask = feature_masks.gaussian_mask(targets, feature_masks.cell_centers(shapes))
    elif kind == "anchors":
        anchors = student.config.anchors
        is_region = anchor_levels(anchors, (size, size)) < 6
        boxes = box_anchors(anchors, (size, size))[is_region]
        mask = feature_masks.anchor_mask(targets, boxes, 3)
    rows = np.concatenate([x.reshape(2, -1) for x in errors], axis=1)
    found = teacher_cases.loss_terms(model, (images, targets))["distill_feature_loss"]
    assert found == pytest.approx(3 * np.average(rows, weights=np.array(mask)), rel=1e-4)


def test_a_step_trains_student_and_adapter_and_leaves_the_teacher():
    student, teacher = teacher_cases.detector(0), teacher_cases.detector(1, fpn_width=12)
    before = take_weights(student), take_weights(teacher)
    model = distill.Distilled(student, teacher, DistillConfig(feature_weight=10.0))
    kernel = np.array(model.adapter.kernel)
    assert kernel.shape == (3, 3, 10, 12)
    # One step: its graph would take longer to make. `fine_tune_test` trains with graphs.
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
    history = model.fit(tf.data.Dataset.from_tensors(teacher_cases.batch()), verbose=0).history
    assert {*student.term_names, *model.distillation.terms, "l2_loss"} <= set(history)
    assert all(history[name][0] > 0 for name in model.distillation.terms)
    after = take_weights(student), take_weights(teacher)
    assert all(np.array_equal(before[1][name], value) for name, value in after[1].items())
    changed = [name for name, value in after[0].items() if np.any(before[0][name] != value)]
    assert len(changed) > 0.9 * len(after[0])
    assert np.any(kernel != np.array(model.adapter.kernel))


def test_the_saved_student_is_the_student_alone(tmp_path):
    student, teacher = teacher_cases.detector(0), teacher_cases.detector(1)
    model = distill.Distilled(student, teacher, DistillConfig())
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
    model.fit(tf.data.Dataset.from_tensors(teacher_cases.batch()), verbose=0)
    assert model.detector is student
    student.save_weights(tmp_path / "student.weights.h5")
    with h5py.File(tmp_path / "student.weights.h5") as file:
        assert "optimizer" not in file
    student.save(tmp_path / "student.keras")
    fresh = teacher_cases.detector(3)
    fresh.load_weights(tmp_path / "student.weights.h5")
    images, _ = teacher_cases.batch()
    wanted = student.detect(images)
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    for other in (fresh, loaded):
        found = other.detect(images)
        assert all(np.array_equal(found[name], value) for name, value in wanted.items())


def test_pairs_that_cannot_be_compared_are_refused():
    small = teacher_cases.detector(0)
    large = teacher_cases.detector(0, fpn_width=20)
    with pytest.raises(UserError, match="fewer than the student's"):
        distill.Distilled(large, small, DistillConfig())
    distill.Distilled(large, small, DistillConfig(allow_smaller=True))
    with pytest.raises(UserError, match=r"classes .*3.* are not the student's .*5"):
        distill.check_pair(small, teacher_cases.detector(0, num_classes=3), True)
    names = [{"class_names": [f"{kind} {i}" for i in range(5)]} for kind in ("cat", "dog")]
    with pytest.raises(UserError, match="are not the student's"):
        distill.check_pair(
            teacher_cases.detector(0, **names[0]), teacher_cases.detector(0, **names[1])
        )
    with pytest.raises(UserError, match="is a EfficientDet, which has no regions"):
        distill.check_pair(small, teacher_cases.detector(0, "efficientdet-test"))


def test_a_mask_rcnn_learns_from_a_faster_rcnn():
    student = teacher_cases.detector(0, "mask-rcnn-test")
    model = distill.Distilled(student, teacher_cases.detector(1), DistillConfig())
    images, targets = teacher_cases.batch()
    side = student.config.target_size
    targets["masks"] = np.ones((2, 2, side, side), np.uint8)
    assert {"mask_loss", *model.distillation.terms} <= set(
        teacher_cases.loss_terms(model, (images, targets))
    )


def recipe(epochs=1, **train):
    changes = {
        "model.name": "faster-rcnn-test",
        "model.backbone": teacher_cases.FULL.to_text(),
        "data.train": "shapes:train:8",
        "train.batch_size": 2,
        "train.num_epochs": epochs,
        "train.warmup_epochs": 0.0,
        "train.learning_rate": 0.01,
        "train.ema_decay": 0.9,
        "train.save_seconds": 0.0,
    }
    return config.make_recipe((), {**changes, **{f"train.{k}": v for k, v in train.items()}})


class _Killed(Exception):
    pass


class _Killer(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 6:
            raise _Killed


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_the_student_alone(tmp_path, monkeypatch):
    """Through `train` and its recipe keys, with every addition: the same bits as without a kill."""
    trainer.train(recipe(), tmp_path / "teacher", measure=False)
    wanted = recipe(
        epochs=2,
        seed=1,
        gamma_l1=1e-5,
        **{
            "distill.teacher": str(tmp_path / "teacher"),
            "elastic.widths": [[1.0, 1.5]] * 4,
            "elastic.sizes": [[64, 64], [48, 48]],
            "elastic.sort": "weights",
            "elastic.recalibration_images": 2,
        },
    )
    whole = trainer.train(wanted, tmp_path / "whole", measure=False)
    assert {*DistillConfig().terms, "gamma_loss"} <= set(whole[0])
    made = fitting.Fitting._callbacks
    monkeypatch.setattr(fitting.Fitting, "_callbacks", lambda *args: [*made(*args), _Killer()])
    with pytest.raises(_Killed):
        trainer.train(wanted, tmp_path / "killed", measure=False)
    monkeypatch.setattr(fitting.Fitting, "_callbacks", made)
    again = trainer.train(wanted, tmp_path / "killed", measure=False)
    assert [row["loss"] for row in again] == [row["loss"] for row in whole]
    first, second = (
        take_weights(trained.load_trained(tmp_path / name)) for name in ("whole", "killed")
    )
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
