"""The 3x3 convolution of necks and heads, separable or dense."""

from typing import Any

import keras


def conv3x3(filters: int, separable: bool, use_bias: bool, name: str, **kwargs: Any) -> Any:
    """A 3x3 convolution that keeps the map's size; `kwargs` go to the Keras layer."""
    cls = keras.layers.SeparableConv2D if separable else keras.layers.Conv2D
    return cls(filters, 3, padding="same", use_bias=use_bias, name=name, **kwargs)
