"""CADDet's grid without what is closed: inference with TensorFlow.

The images of a batch take their routes one after another, each through branches of its own: to run
a node on the images that have it open cost more in taking those out and putting them back than it
gained, see docs/results.md.

A closed node costs nothing: its input is its output. Nor is a map that came through closed nodes
looked at again: its quarters, which are what a router sees, come with it.
"""

import itertools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdet.backbones.grid import CLOSED, PATHS
from tfdet.backbones.supernet import Supernet
from tfdet.layers import folding
from tfdet.layers.gate_router import quarters
from tfdet.ops import conditional
from tfdet.tensors import Tensor


class _Arrived(NamedTuple):
    """What a node gets, for one image.

    Attributes:
        x: [1, H, W, C]; zeros where nobody sent anything.
        is_here: bool [], whether anybody did.
        seen: the quarters of the map before something was added, or None.
        is_seen: bool [], whether those are still its quarters.
    """

    x: tf.Tensor
    is_here: tf.Tensor
    seen: tf.Tensor | None
    is_seen: tf.Tensor

    def quarters(self) -> tf.Tensor:
        """[1, 2, 2, C], what a router sees of the map."""
        if self.seen is None:
            return quarters(self.x)
        return tf.cond(self.is_seen, lambda: self.seen, lambda: quarters(self.x))

    def plus(self, x: tf.Tensor, is_sent: tf.Tensor) -> "_Arrived":
        """With `x` in the place of the map, which it is the sum with where `is_sent`."""
        return _Arrived(x, self.is_here | is_sent, self.seen, self.is_seen & ~is_sent)


class _Opened(NamedTuple):
    """A path of a node: its gate, float32 [], and whether that is open, bool []."""

    gate: tf.Tensor
    is_open: tf.Tensor


def skip_closed(
    net: Supernet, images: tf.Tensor, threshold: Tensor = CLOSED, factors: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """What `net(images, threshold=threshold)` gives, computed without what is closed.

    Args:
        net: the grid.
        images: [B, H, W, 3], normalised; B is at least 1.
        threshold: gates below it are closed; at least `grid.CLOSED`.
        factors: [B, gates] in 0..1, of the routers' gates: to try routes. None has no such.
    """
    x = net.stem_map(images, training=False)
    sizes = net.config.map_sizes(tuple(images.shape[1:3]))
    walk = _Walk(net, sizes, threshold)
    rows = [x] if factors is None else [x, factors]

    def one(row: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        found = walk.along_route(*(tensor[None] for tensor in row))
        return {name: tensor[0] for name, tensor in found.items()}

    # Folded here, before any branch or loop, so that it happens once.
    with folding.in_place_of(_folds(net)):
        if x.shape[0] == 1:
            return walk.along_route(*rows)
        specs = {
            level: tf.TensorSpec([*size, channels], x.dtype)
            for level, size, channels in zip(net.levels, sizes, net.config.channels, strict=True)
        }
        specs["gates"] = tf.TensorSpec([net.config.num_gates])
        # Several at a time are no faster on two cores, and crash in oneDNN's kernels (TensorFlow
        # 2.21).
        return tf.map_fn(one, rows, fn_output_signature=specs, parallel_iterations=1)


def _folds(net: Supernet) -> dict[keras.layers.Layer, folding.Folded]:
    """The convolutions of nodes and routers with their batch norms.

    NumPy arrays within `conditional.constant_branches`, tensors otherwise.
    """
    pairs = [(router.score, None) for router in net.routers]
    pairs += [(router.hidden, router.bn) for router in net.routers]
    for node in net.nodes:
        for unit in node.units:
            pairs += [(unit.depthwise, unit.depthwise_bn), (unit.pointwise, unit.bn)]
        pairs += [(path.conv, path.bn) for path in node.paths.values() if path.conv is not None]
    return {layer: folding.folded(layer, norm, conditional.value_of) for layer, norm in pairs}


class _Walk(NamedTuple):
    """One image's way through the grid.

    Attributes:
        net: the grid.
        sizes: (height, width) of the map of each scale.
        threshold: of gates.
    """

    net: Supernet
    sizes: tuple[tuple[int, int], ...]
    threshold: Any

    def along_route(self, x: tf.Tensor, factors: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The maps and the gates [1, gates], given what comes from the stem, [1, H, W, C]."""
        yes, no = tf.constant(True), tf.constant(False)
        arrived, gates = {0: _Arrived(x, yes, None, no)}, []
        layers = itertools.groupby(enumerate(self.net.config.nodes), lambda node: node[1].layer)
        for _, nodes in layers:
            sent, ways = {}, []
            for number, spec in nodes:
                own = arrived.get(spec.scale) or self.nothing(spec.scale, x.dtype)
                own = own._replace(seen=own.quarters())
                g, is_open = self.gates_of(number, own, factors)
                opened = map(_Opened, tf.unstack(g[0]), tf.unstack(is_open[0]))
                paths = dict(zip(spec.paths, opened, strict=True))
                y, sent[spec.scale] = self.run_block(number, own, paths)
                gates.append(g)
                ways += [(number, path, y, to) for path, to in paths.items() if path != "keep"]
            # Ways up and down add to what is kept, which is there already: a closed one does
            # nothing.
            for number, path, y, opened in ways:
                target = self.net.config.nodes[number].scale + PATHS[path]
                to = sent.get(target) or self.nothing(target, x.dtype)
                sent[target] = self.add_path(number, path, y, opened, to)
            arrived = sent
        maps = {level: arrived[scale].x for scale, level in enumerate(self.net.levels)}
        return {**maps, "gates": tf.concat(gates, axis=1)}

    def nothing(self, scale: int, dtype: tf.DType) -> _Arrived:
        """What arrives where nobody sends anything."""
        no, channels = tf.constant(False), self.net.config.channels[scale]
        return _Arrived(tf.zeros([1, *self.sizes[scale], channels], dtype), no, None, no)

    def gates_of(
        self, number: int, own: _Arrived, factors: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The gates [1, paths] of a node, 0 where closed, and which are open."""
        spec, config = self.net.config.nodes[number], self.net.config
        if config.routers:
            g = self.net.routers[number].of_quarters(own.seen, training=False)
        else:
            g = tf.ones([1, len(spec.paths)])
        if factors is not None:
            g *= factors[:, spec.gates]
        is_open = own.is_here & (g >= self.threshold)
        return tf.where(is_open, tf.ones_like(g) if config.hard_gates else g, 0.0), is_open

    def run_block(
        self, number: int, own: _Arrived, paths: dict[str, _Opened]
    ) -> tuple[tf.Tensor, _Arrived]:
        """The block of a node, from which other paths start, and what it sends to its own scale."""
        bypass, keep, node = self.net.config.bypass, paths["keep"], self.net.nodes[number]
        is_needed = tf.reduce_any([path.is_open for path in paths.values()])
        passed = own.x if bypass else tf.zeros_like(own.x)

        def run() -> tuple[tf.Tensor, tf.Tensor]:
            y = node.block(own.x, training=False)
            return y, node.paths["keep"].carry(y, keep.gate, training=False)

        y, kept = tf.cond(is_needed, run, lambda: (own.x, passed))
        is_passed = ~is_needed if bypass else tf.constant(False)
        is_sent = keep.is_open | (own.is_here & is_passed)
        return y, _Arrived(kept, is_sent, own.seen, is_passed)

    def add_path(
        self, number: int, path: str, y: tf.Tensor, opened: _Opened, to: _Arrived
    ) -> _Arrived:
        """`to` and what a path of a node sends there."""
        carry = self.net.nodes[number].paths[path].carry

        def run() -> tf.Tensor:
            return to.x + carry(y, opened.gate, to.x.shape[1:3], training=False)

        return to.plus(tf.cond(opened.is_open, run, lambda: to.x), opened.is_open)
