import dataclasses

import numpy as np
import pytest

import tfdet
from tfdet.data import loader
from tfdet.errors import UserError


@pytest.fixture
def damaged():
    """Four pictures, of which the second one cannot be read."""
    whole = tfdet.open_dataset("shapes:val").subset(4)
    files = whole.encoded

    class Damaged(type(whole)):
        def encoded(self, i):
            return files(i)[:50] if i == 1 else files(i)

    fields = {field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)}
    return Damaged(**fields)


def test_a_damaged_image_is_counted_once_and_the_next_takes_its_place(damaged):
    images = loader.ImageLoader(damaged)
    assert images.load(1) is None and images.load(1) is None
    again = loader.ImageLoader(damaged)
    image, position = again.load_or_next(1)
    assert position == 2
    np.testing.assert_array_equal(image, images.load(2))
    assert damaged.problems.num_damaged == 1


def test_decoded_images_are_kept_only_when_asked_for(damaged):
    assert loader.ImageLoader(damaged).load(0) is not loader.ImageLoader(damaged).load(0)
    kept = loader.ImageLoader(damaged, keep_decoded=True)
    assert kept.load(0) is kept.load(0)


def test_a_set_that_memory_cannot_hold_is_refused_before_it_is_read(damaged, monkeypatch):
    monkeypatch.setattr(loader, "MAX_CACHE_BYTES", 1000)
    with pytest.raises(UserError, match=r"turn data\.cache off"):
        loader.ImageLoader(damaged, keep_decoded=True)


def test_a_set_without_a_readable_image_is_refused(damaged):
    alone = damaged.subset(2).select(np.array([1]))
    object.__setattr__(alone, "encoded", lambda i: b"nothing")
    with pytest.raises(UserError, match="no readable image"):
        loader.ImageLoader(alone).load_or_next(0)
