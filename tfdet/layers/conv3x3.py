"""The 3x3 convolution of necks and heads, separable or dense."""

from typing import Any

from tfdet.layers.convolution import Conv2D, SeparableConv2D


def conv3x3(filters: int, separable: bool, use_bias: bool, name: str, **kwargs: Any) -> Any:
    """A 3x3 convolution that keeps the map's size; `kwargs` go to the Keras layer."""
    cls = SeparableConv2D if separable else Conv2D
    return cls(filters, 3, padding="same", use_bias=use_bias, name=name, **kwargs)
