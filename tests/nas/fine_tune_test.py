"""Short trainings, as a search does them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.nas import teacher_cases
from tfdet import config
from tfdet.errors import UserError
from tfdet.losses.distillation import DistillConfig
from tfdet.nas.fine_tune import fine_tune
from tfdet.nas.weights import take_weights

SHORT = config.TrainConfig(
    batch_size=2, warmup_epochs=0.0, learning_rate=1e-5, learning_rate_batch=0, ema_decay=0.0
)


def test_a_short_training_repeats_itself_and_follows_the_teacher():
    teacher = teacher_cases.detector(1)
    batches = tf.data.Dataset.from_tensors(teacher_cases.batch()).repeat()
    results = []
    for taught in (teacher, teacher, None):
        student = teacher_cases.detector(0)
        terms = fine_tune(student, taught, batches, 3, SHORT)
        results.append((terms, take_weights(student)))
    # Gradients of regions are added up in any order where `deterministic` is off.
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3)
    assert set(results[0][0]) - set(results[2][0]) == set(DistillConfig().terms)
    for name, value in results[0][1].items():
        np.testing.assert_allclose(value, results[1][1][name], rtol=1e-3, atol=1e-5)
    assert any(np.any(results[2][1][name] != value) for name, value in results[0][1].items())


def test_a_short_training_stops_at_a_loss_that_is_no_number():
    images, targets = teacher_cases.batch()
    batches = tf.data.Dataset.from_tensors((images * np.nan, targets)).repeat()
    with pytest.raises(UserError, match="stopped being a finite number"):
        fine_tune(teacher_cases.detector(0), None, batches, 2, SHORT)


def test_a_short_training_refuses_what_it_would_not_do():
    wrong = config.TrainConfig(additions={"distill": DistillConfig(teacher="runs/teacher")})
    with pytest.raises(UserError, match=r"distill\.teacher cannot be used"):
        fine_tune(teacher_cases.detector(0), None, [], 1, wrong)
