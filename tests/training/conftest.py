"""What tests of suggested recipes share."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tfdet import cache_folder
from tfdet.data import sources
from tfdet.data.survey import Survey, survey


@pytest.fixture(scope="module")
def no_weights(tmp_path_factory) -> Iterator[None]:
    """No published weights are on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache_folder.VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def equal_images() -> Callable[..., Survey]:
    """Makes surveys of equal images."""
    return _facts


def _facts(images=50, classes=5, objects=8, side=40.0, size=(480, 640)):
    """A survey of equal images with objects of every class in turn."""
    count = images * objects
    labels = np.arange(count) % classes
    per_class = np.bincount(labels, minlength=classes)
    return dataclasses.replace(
        survey(sources.read_source("shapes:val:4")),
        class_names=tuple(map(str, range(classes))),
        objects_of_class=per_class,
        images_of_class=np.minimum(per_class, images),
        objects_per_image=np.full(images, objects),
        image_sizes=np.tile(size, (images, 1)),
        image_of_object=np.repeat(np.arange(images), objects),
        sides=np.full((count, 2), side),
        labels=labels,
    )
