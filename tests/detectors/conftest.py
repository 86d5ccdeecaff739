"""Small detectors that the tests of a file share, since making one takes a second."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from tfdet import registry


@pytest.fixture(scope="module")
def make() -> Callable:
    """Gives the detector of a name and overrides: one in a file, as it was when it was made.

    What a test compiles, monkeypatches and calibrates is its own to look after.
    """
    made = {}

    def get(name: str, **overrides: object) -> object:
        key = repr((name, sorted(overrides.items())))
        if key not in made:
            keras.utils.set_random_seed(0)
            model = registry.create(name, **overrides)
            variables = [*model.weights, *model.run_variables]
            threshold = model.threshold if model.is_dynamic else None
            made[key] = model, threshold, [(v, np.asarray(v)) for v in variables]
        model, threshold, values = made[key]
        for variable, value in values:
            variable.assign(value)
        if model.is_dynamic:
            model.threshold = threshold
        return model

    return get
