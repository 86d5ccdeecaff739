"""Operations of layers, counted from the shapes that they see."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from tfdet.tensors import Tensor

Shape = tuple[int | None, ...]


class Operations(NamedTuple):
    """Work of one call of a layer, in the two conventions of `profiling.Profile`."""

    macs: int = 0
    mmdet_flops: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.macs + other.macs, self.mmdet_flops + other.mmdet_flops)


@functools.singledispatch
def operations(layer: keras.layers.Layer, inputs: Shape, outputs: Shape) -> Operations:
    """Work of one call of `layer`, given the shapes of its first input and its output.

    Layers without an entry count nothing. A layer that does arithmetic of its own registers a
    function with `operations.register`.
    """
    return Operations()


@operations.register
def _(layer: keras.layers.Conv2D, inputs: Shape, outputs: Shape) -> Operations:
    return _convolution(outputs, inputs[-1] // layer.groups, layer.kernel_size, layer.use_bias)


@operations.register
def _(layer: keras.layers.DepthwiseConv2D, inputs: Shape, outputs: Shape) -> Operations:
    return _convolution(outputs, 1, layer.kernel_size, layer.use_bias)


@operations.register
def _(layer: keras.layers.SeparableConv2D, inputs: Shape, outputs: Shape) -> Operations:
    width = inputs[-1] * layer.depth_multiplier
    depthwise = _convolution((*outputs[:-1], width), 1, layer.kernel_size, use_bias=False)
    return depthwise + _convolution(outputs, width, (1, 1), layer.use_bias)


@operations.register
def _(layer: keras.layers.Conv2DTranspose, inputs: Shape, outputs: Shape) -> Operations:
    macs = math.prod(inputs[1:]) * layer.filters * math.prod(layer.kernel_size)
    return Operations(macs, macs + (math.prod(outputs[1:]) if layer.use_bias else 0))


@operations.register
def _(layer: keras.layers.Dense, inputs: Shape, outputs: Shape) -> Operations:
    macs = math.prod(outputs[1:]) * inputs[-1]
    return Operations(macs, macs)


@operations.register
def _(layer: keras.layers.BatchNormalization, inputs: Shape, outputs: Shape) -> Operations:
    return Operations(0, 2 * math.prod(outputs[1:]))


@operations.register
def _(layer: keras.layers.ReLU, inputs: Shape, outputs: Shape) -> Operations:
    return Operations(0, math.prod(outputs[1:]))


@operations.register
def _(layer: keras.layers.MaxPooling2D, inputs: Shape, outputs: Shape) -> Operations:
    return Operations(0, math.prod(inputs[1:]))


def _convolution(
    outputs: Shape, input_channels: int, kernel_size: tuple[int, int], use_bias: bool
) -> Operations:
    pixels = math.prod(outputs[1:])
    macs = pixels * input_channels * math.prod(kernel_size)
    return Operations(macs, macs + (pixels if use_bias else 0))


def count_layers(
    model: keras.layers.Layer, image_size: tuple[int, int], forward: Callable[[Any], Any]
) -> dict[int, Operations]:
    """Operations of each layer in `model` that has any, by the id of the layer.

    Args:
        model: its layers are watched.
        image_size: (height, width) of one image.
        forward: is called with a symbolic image [1, H, W, 3].
    """
    work: dict[int, Operations] = {}
    silent = operations.dispatch(keras.layers.Layer)
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():
            if operations.dispatch(type(layer)) is not silent:
                stack.enter_context(_watched(layer, work))
        forward(keras.KerasTensor((1, *image_size, 3)))
    return work


@contextlib.contextmanager
def _watched(layer: keras.layers.Layer, work: dict[int, Operations]) -> Iterator[None]:
    """Adds each call of `layer` to `work`.

    A symbolic call asks a layer for `compute_output_spec`, a traced one for `call`; the first may
    do the second.
    """
    depth = 0

    def watch(method: Any) -> Any:
        @functools.wraps(method)
        def run(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                outputs = method(inputs, *args, **kwargs)
            finally:
                depth -= 1
            if depth == 0:
                done = operations(layer, _first_shape(inputs), _first_shape(outputs))
                work[id(layer)] = work.get(id(layer), Operations()) + done
            return outputs

        return run

    methods = ("compute_output_spec", "call")
    for name in methods:
        vars(layer)[name] = watch(getattr(layer, name))
    try:
        yield
    finally:
        for name in methods:
            del vars(layer)[name]


def _first_shape(tensors: Tensor) -> Shape:
    return tuple(keras.tree.flatten(tensors)[0].shape)
