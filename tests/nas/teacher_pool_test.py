import dataclasses

import numpy as np
import pytest

from tests.nas import teacher_cases
from tfdet import registry
from tfdet.backbones.encoding import super_encoding
from tfdet.errors import UserError
from tfdet.nas.teacher_pool import TeacherPool
from tfdet.nas.weights import take_weights


def test_the_pool_teaches_with_frozen_subnets_of_their_own_statistics():
    model = teacher_cases.super_network()
    pool = TeacherPool(model, teacher_cases.SPACE, teacher_cases.batches)
    student = registry.create("faster-rcnn-test", backbone=super_encoding((1,) * 4, 0.5, stem=8))
    teacher = pool.teacher_for(student, teacher_cases.MIXED)
    assert teacher is pool.teacher_for(student, teacher_cases.MIXED)
    assert not teacher.trainable_variables
    again = TeacherPool(model, teacher_cases.SPACE, teacher_cases.batches).ready(
        teacher_cases.MIXED
    )
    for name, value in take_weights(teacher).items():
        np.testing.assert_array_equal(value, take_weights(again)[name])
    raw = pool.extract(teacher_cases.MIXED)
    assert np.any(
        np.array(raw.backbone.stem_bn.moving_mean) != teacher.backbone.stem_bn.moving_mean
    )
    with pytest.raises(UserError, match="fewer than the student's"):
        pool.teacher_for(model, teacher_cases.MIXED)
    with pytest.raises(UserError, match="the pool has no subnet 3-3-3-3"):
        pool.extract(dataclasses.replace(teacher_cases.MIXED, depths=(3,) * 4))
    random = np.random.default_rng(0)
    assert pool.subnet_for(model, teacher_cases.MIXED, random) == teacher_cases.SPACE.largest
    assert pool.subnet_for(student, teacher_cases.MIXED, random) in teacher_cases.SPACE
