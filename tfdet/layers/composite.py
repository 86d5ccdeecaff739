"""The base of layers that are made of layers."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from tfdet.layers import batch_norm
from tfdet.tensors import Tensor


class Composite(keras.layers.Layer):
    """A layer made of layers: `call` alone defines what it is.

    It builds its parts, and finds its output shapes, by running `call` on symbolic tensors. Keras
    would trace `call` in a scratch graph instead, once per depth of nesting: minutes for a large
    detector. Subclasses write `__init__`, `call` and `get_config`.
    """

    def build(self, input_shape: Any) -> None:
        # In the dtype that inputs are cast to: parts may mix their own outputs with the inputs.
        self.call(
            keras.tree.map_shape_structure(
                lambda shape: keras.KerasTensor(shape, self.compute_dtype), input_shape
            )
        )

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.call(*args, **kwargs)


def on_each(layer: keras.layers.Layer, maps: Iterable[Tensor]) -> list[Any]:
    """`[layer(x) for x in maps]`, for which the layer's weights are read once.

    The layer assigns to none of them.
    """
    weights = [(weight, ops.cast(weight, weight.dtype)) for weight in layer.weights]
    if not weights:  # not built yet
        return [layer(x) for x in maps]
    with keras.StatelessScope(state_mapping=weights):
        return [layer(x) for x in maps]


def checkpointed(function: Callable[[Any], Any], inputs: Tensor) -> Any:
    """`function(inputs)`, computed again for the gradient instead of being kept in memory.

    `function` must draw no random numbers: the second run would draw others. Batch norms update
    their statistics in the first run only.
    """
    runs = 0

    def run(*tensors: Tensor) -> Any:
        nonlocal runs
        runs += 1
        structured = keras.tree.pack_sequence_as(inputs, tensors)
        if runs == 1:
            return function(structured)
        with batch_norm.no_updates():
            return function(structured)

    return keras.remat(run)(*keras.tree.flatten(inputs))
