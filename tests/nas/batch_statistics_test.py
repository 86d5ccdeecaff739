import numpy as np
import pytest

from tests.nas import teacher_cases
from tfdet.errors import UserError
from tfdet.nas.batch_statistics import recompute


def test_all_images_count_as_in_one_batch():
    model = teacher_cases.super_network()
    stem = model.backbone.stem_bn
    recompute(model, teacher_cases.batches(count=3))
    images = np.concatenate([x for x, _ in teacher_cases.batches(count=3)])
    outputs = np.array(model.backbone.stem_conv(model.normalization(images)), np.float64)
    np.testing.assert_allclose(np.array(stem.moving_mean), outputs.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(np.array(stem.moving_variance), outputs.var((0, 1, 2)), rtol=1e-4)
    with pytest.raises(UserError, match="no images"):
        recompute(model, [])
    with pytest.raises(UserError, match="no batch norm that is trained"):
        recompute(teacher_cases.super_network(batch_norm="frozen"), teacher_cases.batches())
