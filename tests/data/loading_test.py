import numpy as np
import pytest

import tfdet
from tfdet.data import pipeline
from tfdet.errors import UserError


@pytest.fixture(scope="module")
def model():
    return tfdet.create("fcos-test")


def test_a_string_and_a_model_give_what_the_pipeline_gives(model):
    dataset = tfdet.open_dataset("shapes:val:7")
    expected = list(pipeline.eval_batches(dataset, (64, 64), 3, model.pad_value))
    for source in ("shapes:val:7", dataset):
        found = list(tfdet.data.load(source, model, batch_size=3))
        assert len(found) == len(expected) == 3
        for (images, targets), (others, wanted) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(images, others)
            np.testing.assert_array_equal(targets["boxes"], wanted["boxes"])


def test_training_batches_have_no_end_and_follow_from_the_seed(model):
    train = [
        list(tfdet.data.load("shapes:train:4", model, 4, training=True, seed=seed).take(3))
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(train[0][2][0], train[1][2][0])
    assert not np.array_equal(train[0][2][0], train[2][2][0])


def test_classes_of_a_model_are_matched_by_name():
    model = tfdet.create("fcos-test", num_classes=2, class_names=["star", "circle"])
    dataset = tfdet.open_dataset("shapes:val:9")
    ((_, targets),) = list(tfdet.data.load(dataset, model, batch_size=9))
    stars = np.count_nonzero(dataset.labels == dataset.class_names.index("star"))
    assert np.count_nonzero(targets["labels"] == 0) == stars > 0


def test_mistakes_end_with_a_sentence(model):
    with pytest.raises(UserError, match="create it with num_classes=5"):
        tfdet.data.load("shapes:val:3", tfdet.create("fcos-test", num_classes=3))
    with pytest.raises(UserError, match="augment is for training=True"):
        tfdet.data.load("shapes:val:3", model, augment=tfdet.data.AugmentConfig())
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = tfdet.data.laod
