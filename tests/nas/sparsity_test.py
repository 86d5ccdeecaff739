import numpy as np
import pytest

from tests.nas import teacher_cases
from tfdet.errors import UserError
from tfdet.nas.sparsity import SparseGammas


def test_gamma_loss_is_the_sum_of_all_scales():
    student = teacher_cases.detector(0)
    gammas = [v for v in student.trainable_variables if v.name == "gamma"]
    gammas[0].assign(-np.array(gammas[0]) * 3)
    model = SparseGammas(student, 0.5)
    wanted = 0.5 * sum(np.abs(np.array(gamma)).sum() for gamma in gammas)
    assert teacher_cases.loss_terms(model)["gamma_loss"] == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(UserError, match="trains no batch norm"):
        SparseGammas(teacher_cases.detector(0, batch_norm="frozen"), 0.5)
