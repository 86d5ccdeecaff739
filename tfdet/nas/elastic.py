"""A super-network in training: each step trains one of its subnets, at one of several sizes.

The whole network runs, with masks after its batch norms: a channel that is not in the subnet is 0,
and so is what a block adds that is not in it. The rest computes what the subnet would by itself, so
that one graph serves all subnets, on any number of replicas; a step costs what the super-network
costs. `extraction.extract` then cuts out networks that cost less.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfdet.backbones.encoding import Place
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.layers import batch_norm
from tfdet.nas import extraction
from tfdet.nas.channel_pruning import spaces
from tfdet.nas.subnets import ElasticConfig, Subnet, SubnetSpace
from tfdet.nas.weights import model_encoding, model_readers, put_weights, take_weights
from tfdet.ops import sampling
from tfdet.training import averaging
from tfdet.training.wrapper import TrainingWrapper

# What the choice of subnets follows from, beside the seed and the step.
_SALT = 7


class Elastic(TrainingWrapper):
    """Draws a subnet and a size for each step; all follow from the seed and the step alone.

    Args:
        inner: a detector on a ResNet whose batch norms are trained, or a wrapper of one.
        config: which subnets there are.
        seed: changes what is drawn.
    """

    def __init__(self, inner: Detector, config: ElasticConfig, seed: int = 0):
        super().__init__(inner, (), "elastic")
        model = self.detector
        self.space = config.space(model_encoding(model), model.image_size)
        self._norms = _norms(model, self.space)
        if model.config.batch_norm == "frozen" or model.config.frozen_stages:
            raise UserError(
                "a super-network trains all of its batch norms: set model.batch_norm to plain or "
                "synchronized, and model.frozen_stages to 0"
            )
        if model.config.gradient_checkpointing:
            raise UserError(
                "model.gradient_checkpointing would forget the subnet; leave it out of a recipe "
                "with train.elastic"
            )
        if config.sort:
            sort_channels(model, config.sort)
        self._sizes = [_fitted_size(model.image_size, size) for size in self.space.sizes]
        self._size = 0
        self.seed = seed

    def make_train_function(self, force: bool = False) -> None:
        """One function per size, since shapes are static; each is traced when it is first drawn."""
        if self.train_function is not None and not force:
            return
        functions = []
        for _ in self._sizes:
            super().make_train_function(force=True)
            functions.append(self.train_function)

        def train(iterator: Any) -> Any:
            self._size = self.size_of_step(int(averaging.read(self.optimizer.iterations)))
            return functions[self._size](iterator)

        self.train_function = train

    def size_of_step(self, step: int) -> int:
        """Position in `space.sizes` of what a step is trained at."""
        random = np.random.default_rng((self.seed, _SALT, step))
        return int(random.integers(len(self._sizes)))

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        if not training:
            return super().call(images, training=training)
        with masked(self._drawn_masks()):
            return super().call(images, training=training)

    def _drawn_masks(self) -> dict[keras.layers.Layer, Any]:
        options = (*self.space.depths, *self.space.widths)
        noise = sampling.noise((len(options),), self.seed, self.steps_done, _SALT)
        counts = np.array([len(x) for x in options], np.float32)
        rows = ops.cast(ops.floor(noise * counts), "int32")
        depths = [
            ops.take(np.array(choices, np.int32), rows[i])
            for i, choices in enumerate(self.space.depths)
        ]
        return _masks(self._norms, depths, [rows[len(depths) + i] for i in range(len(depths))])

    def _tensorflow_step(self, data: Any) -> dict[str, Any]:
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        size = self._sizes[self._size]
        if size != tuple(images.shape[1:3]):
            share = size[0] / images.shape[1], size[1] / images.shape[2]
            scale = np.array([share[1], share[0]] * 2, np.float32)
            images = ops.image.resize(ops.cast(images, "float32"), size, antialias=True)
            targets = {**targets, "boxes": targets["boxes"] * scale}
        return super()._tensorflow_step((images, targets))


class _Masks(batch_norm.Hook):
    """Gives 0 in the channels of batch norms where their mask [C] is 0, not 1.

    The other channels compute what they would if the masked ones did not exist.
    """

    def __init__(self, masks: Mapping[keras.layers.Layer, Any]):
        self._masks = masks

    def factor(self, layer: keras.layers.Layer) -> Any | None:
        return self._masks.get(layer)


def masked(masks: Mapping[keras.layers.Layer, Any]) -> contextlib.AbstractContextManager[None]:
    """Within it, these batch norms have only the channels where their mask [C] is 1, not 0."""
    return batch_norm.hooked(_Masks(masks))


def subnet_masks(
    model: Detector, space: SubnetSpace, subnet: Subnet
) -> dict[keras.layers.Layer, Any]:
    """Masks for `masked` in which a super-network computes what a subnet would."""
    if dataclasses.replace(subnet, image_size=space.sizes[0]) not in space:
        raise UserError(f"the super-network is not trained for {subnet}")
    rows = [options.index(w) for options, w in zip(space.widths, subnet.widths, strict=True)]
    return _masks(_norms(model, space), subnet.depths, rows)


def sort_channels(model: Detector, by: Any) -> None:
    """Puts the most important channels first, without changing what the detector computes.

    Args:
        model: a detector on a ResNet.
        by: see `nas.subnets.ElasticConfig.sort`.
    """
    weights = take_weights(model)
    encoding, readers = model_encoding(model), model_readers(model)
    put_weights(model, extraction.sort_channels(encoding, weights, by, readers))


class _Norm(NamedTuple):
    """A batch norm, and which of its channels are there.

    Attributes:
        layer: it.
        stage: counted from 0.
        limits: channels it has for each choice of the stage's width.
        depth: it is there if the stage has more blocks than this; -1 for norms that stay.
    """

    layer: keras.layers.Layer
    stage: int
    limits: tuple[int, ...]
    depth: int


def _norms(model: Detector, space: SubnetSpace) -> list[_Norm]:
    """All batch norms of the backbone's blocks that some subnet lacks channels of."""
    encoding = model_encoding(model)
    limits, outputs = {}, {}
    for found in spaces(encoding):
        options = space.widths[found.place.stage - 1]
        row = tuple(extraction.kept_width(found, w, space.full_width) for w in options)
        limits[found.place, found.conv] = row
        if found.conv == 0:
            outputs[found.place.stage] = row
        elif found.unit > 1:
            limits[found.place, 2] = row
    norms = []
    for place, block in encoding.blocks():
        layer = model.backbone.stages[place.stage - 1][place.index]
        whole = tuple(block.out_width for _ in space.widths[place.stage - 1])
        last = len(block.widths)
        for conv in range(1, last):
            norms.append(_norm(layer, f"bn{conv}", place, limits[place, conv], -1))
        row = outputs.get(place.stage, whole)
        norms.append(_norm(layer, f"bn{last}", place, row, place.index))
        if block.projection:
            norms.append(_norm(layer, "projection_bn", place, row, -1))
    return norms


def _norm(block: Any, name: str, place: Place, limits: Sequence[int], depth: int) -> _Norm:
    return _Norm(getattr(block, name), place.stage - 1, tuple(limits), depth)


def _masks(
    norms: Sequence[_Norm], depths: Sequence[Any], rows: Sequence[Any]
) -> dict[keras.layers.Layer, Any]:
    """The mask [C] of each norm, for each stage's depth and the position of its width."""
    masks = {}
    for norm in norms:
        width = norm.layer.gamma.shape[0]
        limit = ops.take(np.array(norm.limits, np.int32), rows[norm.stage])
        if norm.depth >= 0:
            limit = limit * ops.cast(depths[norm.stage] > norm.depth, "int32")
        masks[norm.layer] = ops.cast(np.arange(width, dtype=np.int32) < limit, "float32")
    return masks


def _fitted_size(canvas: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """`canvas` scaled to fit into `size`, with its aspect ratio."""
    scale = min(inner / outer for inner, outer in zip(size, canvas, strict=True))
    height, width = (max(round(side * scale), 1) for side in canvas)
    return height, width
