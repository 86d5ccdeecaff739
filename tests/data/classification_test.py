import numpy as np
import pytest
from PIL import Image

from tfdet.data import classification, folders


@pytest.fixture
def dataset(tmp_path):
    """Ten pictures: red ones are class 1, blue ones class 0; a gray frame around all."""
    for i in range(10):
        name, color = ("blue", (0, 0, 255)) if i % 2 else ("red", (255, 0, 0))
        (tmp_path / name).mkdir(exist_ok=True)
        image = np.full((40, 60, 3), 128, np.uint8)
        image[2:-2, 3:-3] = color
        Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    return folders.open_folders(str(tmp_path))


def test_crops_keep_their_label_and_their_size(dataset):
    images, labels = next(iter(classification.train_batches(dataset, (24, 16), 8)))
    assert images.shape == (8, 24, 16, 3) and set(labels.numpy()) == {0, 1}
    for image, label in zip(images.numpy(), labels.numpy(), strict=True):
        assert image[12, 8, 0 if label else 2] > image[12, 8, 2 if label else 0]


def test_batches_begin_at_any_step(dataset):
    whole = list(classification.train_batches(dataset, (16, 16), 4, seed=3).take(4))
    later = list(classification.train_batches(dataset, (16, 16), 4, seed=3, start_step=2).take(2))
    for ours, theirs in zip(later, whole[2:], strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_evaluation_looks_at_the_middle_of_each_image_once(dataset):
    batches = list(classification.eval_batches(dataset, (16, 16), 4))
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(labels) == [0] * 5 + [1] * 5
    images = np.concatenate([images for images, _ in batches])
    assert not np.any(np.all(np.abs(images - 128) < 8, axis=-1))  # nothing of the frame
