import dataclasses

import numpy as np
import pytest

from tfdet.data import survey
from tfdet.data.shapes import open_shapes
from tfdet.data.sources import open_dataset


def test_objects_are_counted_by_class_and_image(tmp_path, scenes):
    facts = survey.survey(open_dataset(scenes.write_voc(tmp_path)))
    assert facts.objects_of_class.tolist() == [2, 3, 1]
    assert facts.images_of_class.tolist() == [2, 2, 1]
    assert facts.objects_per_image.tolist() == [2, 0, 1, 3]
    np.testing.assert_allclose(facts.sides[0], (26, 17))
    # 40x60 into 80x80: by 4/3, the longer side's
    np.testing.assert_allclose(facts.object_sides((80, 80))[0], np.array([26, 17]) * 4 / 3)


def test_crowds_are_no_objects():
    dataset = open_shapes("val", 5)
    crowds = dataclasses.replace(dataset, is_crowd=np.ones(len(dataset.boxes), bool))
    facts = survey.survey(crowds)
    assert facts.num_objects == 0 and facts.objects_per_image.tolist() == [0] * 5
    assert len(survey.sample(facts, 3)) == 3


@pytest.mark.parametrize("count", [1, 2, 7, 20, 50])
def test_a_sample_has_no_image_twice_and_follows_from_its_seed(count):
    facts = survey.survey(open_shapes("val", 20))
    chosen = survey.sample(facts, count, seed=3)
    assert len(chosen) == min(count, 20) and np.all(np.diff(chosen) > 0)
    np.testing.assert_array_equal(chosen, survey.sample(facts, count, seed=3))


def test_a_rare_class_is_in_the_sample():
    dataset = open_shapes("train", 200)
    labels = np.where(dataset.labels == 4, 0, dataset.labels)
    labels[len(labels) // 2] = 4
    facts = survey.survey(dataclasses.replace(dataset, labels=labels))
    (rare,) = facts.image_of_object[facts.labels == 4]
    assert all(rare in survey.sample(facts, 8, seed) for seed in range(5))
