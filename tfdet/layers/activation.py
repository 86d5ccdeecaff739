"""Activations by the names that the papers use."""

from collections.abc import Callable
from typing import Any

import keras

from tfdet.errors import UserError

_ACTIVATIONS = {
    "swish": keras.activations.silu,
    "silu": keras.activations.silu,
    "hswish": keras.activations.hard_silu,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "leaky_relu": keras.activations.leaky_relu,
    "mish": keras.activations.mish,
}


def activation(name: str) -> Callable[[Any], Any]:
    """The activation function called `name`."""
    if name not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UserError(f"unknown activation {name!r}; use one of {known}")
    return _ACTIVATIONS[name]
