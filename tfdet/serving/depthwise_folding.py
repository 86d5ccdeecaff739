"""Batch norms behind depthwise convolutions as part of these, in a graph of constants.

TensorFlow's own optimizer does this for full convolutions alone.
"""

from typing import Any

import numpy as np
import tensorflow as tf

_CONVOLUTION = "DepthwiseConv2dNative"
# What the scale of a batch norm is made of.
_ARITHMETIC = ("Identity", "Rsqrt", "Sqrt", "Add", "AddV2", "Sub", "Mul", "RealDiv", "Cast")


def fold(graph: Any) -> int:
    """Multiplies kernels by what their outputs are multiplied by, in a GraphDef; how many.

    Looked for are a depthwise convolution whose kernel is a constant and whose output goes into one
    multiplication alone, by a constant number per channel. Functions of the graph are left alone:
    their constants are arguments.
    """
    nodes = {node.name: node for node in graph.node}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(_node_of(name), []).append(node)
    pairs = [
        pair
        for node in graph.node
        if node.op == _CONVOLUTION and (pair := _pair(node, users, _Constants(nodes)))
    ]
    if not pairs:
        return 0
    values = _values(graph, [name for _, _, factor, kernel in pairs for name in (factor, kernel)])
    for i, (convolution, product, factor, kernel) in enumerate(pairs):
        folded = _scaled(values[kernel], values[factor])
        name = f"{convolution.name}/folded_{i}"
        graph.node.append(_constant(name, folded))
        convolution.input[1] = name
        # The product becomes what it was made of; optimizers take such nodes away.
        product.op = "Identity"
        del product.input[:]
        product.input.append(convolution.name)
        for key in set(product.attr) - {"T"}:
            del product.attr[key]
    return len(pairs)


class _Constants:
    """Which nodes of a graph are made of constants alone."""

    def __init__(self, nodes: dict[str, Any]):
        self._nodes = nodes
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        name = _node_of(name)
        if name not in self._known:
            node = self._nodes[name]
            is_sum = node.op in _ARITHMETIC and all(x in self for x in node.input)
            self._known[name] = node.op == "Const" or is_sum
        return self._known[name]


def _pair(
    convolution: Any, users: dict[str, list[Any]], constants: _Constants
) -> tuple[Any, Any, str, str] | None:
    """A convolution, the product behind it, and the names of its factor and of the kernel."""
    _, kernel = convolution.input[:2]
    (product, *others) = users.get(convolution.name, [None])
    if others or product is None or product.op != "Mul" or kernel not in constants:
        return None
    factors = [name for name in product.input if _node_of(name) != convolution.name]
    if len(factors) != 1 or factors[0] not in constants:
        return None
    return convolution, product, factors[0], kernel


def _values(graph: Any, names: list[str]) -> dict[str, np.ndarray]:
    everything = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    tensors = [
        everything.graph.as_graph_element(name if ":" in name else f"{name}:0") for name in names
    ]
    return dict(zip(names, (x.numpy() for x in everything.prune([], tensors)()), strict=True))


def _scaled(kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """[h, w, C, M] times a number, or one for each of C * M channels, which come M by M."""
    per_channel = np.broadcast_to(factor.reshape(-1), kernel.shape[2] * kernel.shape[3])
    return kernel * per_channel.reshape(kernel.shape[2:])


def _constant(name: str, value: np.ndarray) -> Any:
    with tf.Graph().as_default():
        tf.constant(value, name="value")
        (node,) = tf.compat.v1.get_default_graph().as_graph_def().node
    node.name = name
    return node


def _node_of(name: str) -> str:
    """The node of a tensor's name, which may be a control input, or have the output's number."""
    return name.removeprefix("^").partition(":")[0]
