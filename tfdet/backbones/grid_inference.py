"""CADDet's grid without what is closed: inference with TensorFlow.

A node runs on the images of the batch that have it open, and each of its paths on those that have
that open; what nobody needs is not run. The map of a scale goes from layer to layer in one tensor
for the whole batch, zero where an image has none, so that a closed node costs nothing: its input is
its output.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfdet.backbones.grid import CLOSED, PATHS
from tfdet.backbones.supernet import Supernet
from tfdet.ops import conditional


class _Done(NamedTuple):
    """A node after its block.

    Attributes:
        number: of the node.
        rows: the images that have it open.
        x: [N, H, W, C], the ReLU of the block's output for these.
        gates: [B, paths].
        is_open: bool [B, paths].
    """

    number: int
    rows: conditional.Rows
    x: tf.Tensor
    gates: tf.Tensor
    is_open: tf.Tensor


def skip_closed(net: Supernet, images: tf.Tensor, threshold: Any = CLOSED) -> dict[str, tf.Tensor]:
    """What `net(images, threshold=threshold)` gives, computed without what is closed.

    Args:
        net: the grid.
        images: [B, H, W, 3], normalised; B is at least 1.
        threshold: gates below it are closed; at least `grid.CLOSED`.
    """
    x = net.stem_map(images, training=False)
    inputs = {0: (x, tf.ones_like(x[:, 0, 0, 0], tf.bool))}
    gates = []
    for layer in range(net.config.last + 1):
        nodes = [i for i, spec in enumerate(net.config.nodes) if spec.layer == layer]
        inputs, found = _layer(net, nodes, inputs, threshold, images.shape[1:3])
        gates += found
    maps = {level: inputs[scale][0] for scale, level in enumerate(net.levels)}
    return {**maps, "gates": tf.concat(gates, axis=1)}


def _layer(
    net: Supernet, nodes: list[int], inputs: dict[int, Any], threshold: Any, image_size: Any
) -> tuple[dict[int, Any], list[tf.Tensor]]:
    """What the nodes of a layer send to the next, by scale: maps [B, ...] and who has them [B]."""
    sizes = net.config.map_sizes(tuple(image_size))
    done, outputs = [], {}
    for number in nodes:
        scale = net.config.nodes[number].scale
        arrived = inputs.get(scale) or net.absent(inputs[0][0], scale, sizes)
        node, kept, is_sent = _run_block(net, number, *arrived, threshold)
        done.append(node)
        outputs[scale] = (kept, is_sent)
    # Ways up and down add to what is kept, which is there already: a closed one does nothing.
    for node in done:
        spec = net.config.nodes[node.number]
        for i, path in enumerate(spec.paths):
            if path == "keep":
                continue
            target = spec.scale + PATHS[path]
            if target not in outputs:
                outputs[target] = _nothing(node, (*sizes[target], net.config.channels[target]))
            x, is_here = outputs[target]
            x = _add_path(net, node, i, x, sizes[target])
            outputs[target] = (x, is_here | node.is_open[:, i])
    return outputs, [node.gates for node in done]


def _run_block(
    net: Supernet, number: int, h: tf.Tensor, is_here: tf.Tensor, threshold: Any
) -> tuple[_Done, tf.Tensor, tf.Tensor]:
    """The block of a node and its path of equal scale: also what it sends there, and for whom."""
    spec, node = net.config.nodes[number], net.nodes[number]
    gates = net.gates_of(number, h, is_here, False, threshold)
    is_open = gates >= CLOSED
    is_needed = tf.reduce_any(is_open, axis=1)
    rows = conditional.Rows(is_needed)
    passed = h if net.config.bypass else tf.zeros_like(h)
    i = spec.paths.index("keep")

    def run() -> tuple[tf.Tensor, tf.Tensor]:
        with conditional.numbers_of(node):
            x = node.block(rows.take(h), training=False)
            gate = tf.gather(gates[:, i], rows.index)
            kept = node.paths["keep"]({"x": x, "gate": gate}, training=False)
        # Once for all paths: a branch cannot share what another branch computes.
        return tf.nn.relu(x), rows.put(passed, kept)

    x, kept = tf.cond(rows.is_any, run, lambda: (h[:0], passed))
    is_sent = is_open[:, i]
    if net.config.bypass:
        is_sent |= is_here & ~is_needed
    return _Done(number, rows, x, gates, is_open), kept, is_sent


def _add_path(
    net: Supernet, node: _Done, i: int, to: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """`to` and what path `i` of a node sends there."""
    spec = net.config.nodes[node.number]
    path = net.nodes[node.number].paths[spec.paths[i]]
    among = node.rows.among(node.is_open[:, i])
    there = conditional.Rows(node.is_open[:, i])

    def run() -> tf.Tensor:
        with conditional.numbers_of(path):
            gate = tf.gather(node.gates[:, i], there.index)
            sent = path.carry(among.take(node.x), gate, size, training=False)
        return there.add(to, sent)

    return tf.cond(there.is_any, run, lambda: to)


def _nothing(node: _Done, shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    batch = tf.shape(node.gates)[0]
    return tf.zeros([batch, *shape], node.x.dtype), tf.zeros([batch], tf.bool)
