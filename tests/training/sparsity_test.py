import numpy as np
import pytest

from tests.nas import teacher_cases
from tfdet import config
from tfdet.errors import UserError
from tfdet.training import additions


def test_gamma_loss_is_the_sum_of_all_scales():
    student = teacher_cases.detector(0)
    gammas = [v for v in student.trainable_variables if v.name == "gamma"]
    gammas[0].assign(-np.array(gammas[0]) * 3)
    settings = config.TrainConfig(gamma_l1=0.5)
    model = additions.with_additions(student, settings)
    wanted = 0.5 * sum(np.abs(np.array(gamma)).sum() for gamma in gammas)
    assert teacher_cases.step_terms(model)["gamma_loss"] == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(UserError, match="trains no batch norm"):
        additions.with_additions(teacher_cases.detector(0, batch_norm="frozen"), settings)
