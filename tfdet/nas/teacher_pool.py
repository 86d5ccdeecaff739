"""The trained subnets of a super-network as teachers."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from tfdet.backbones.encoding import Encoding
from tfdet.data import pipeline, sources
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.nas import batch_statistics, distill, extraction
from tfdet.nas.subnets import Subnet, SubnetSpace
from tfdet.nas.weights import model_encoding, model_readers, put_weights, take_weights
from tfdet.training import trained

_TEACHERS_KEPT = 4
_TRIES = 50


class TeacherPool:
    """Cuts subnets out of a super-network, and measures their batch norms before they teach.

    Example:
        pool = TeacherPool.load("runs/pool")
        teacher = pool.teacher_for(student, pool.space.largest)

    Args:
        model: the super-network; it is not changed.
        space: the subnets that it was trained for.
        batches: image size -> batches (images, targets) that a subnet of this size is measured on;
            the same ones each time.
    """

    def __init__(
        self,
        model: Detector,
        space: SubnetSpace,
        batches: Callable[[tuple[int, int]], Iterable[Any]],
    ):
        self.model = model
        self.space = space
        self._batches = batches
        self._encoding = model_encoding(model)
        self._weights = take_weights(model)
        self._teacher = functools.lru_cache(_TEACHERS_KEPT)(self._make_teacher)

    @classmethod
    def load(
        cls,
        model_dir: str | pathlib.Path,
        data: str = "",
        which: Literal["best", "last"] = "last",
    ) -> "TeacherPool":
        """The pool of a training folder.

        Args:
            model_dir: of the last training with `train.elastic`.
            data: images for the batch norms, as `--data` takes them; "" for those that the pool
                was trained on.
            which: "best" are the weights with the best AP of the whole super-network.
        """
        recipe = trained.trained_recipe(model_dir)
        elastic = recipe.train.additions["elastic"]
        if elastic is None:
            raise UserError(
                f"{model_dir} holds no super-network: its recipe has no train.elastic; see "
                "the recipes joint_detnas/pool_*"
            )
        model = trained.load_trained(model_dir, which)
        space = elastic.space(model_encoding(model), model.image_size)
        batches = _training_batches(recipe, model, data, elastic.recalibration_images)
        return cls(model, space, batches)

    def encoding(self, subnet: Subnet) -> Encoding:
        """The subnet's backbone; its cost can be counted without weights."""
        self._check(subnet)
        full_width = self.space.full_width
        return extraction.extract(self._encoding, {}, subnet, full_width)[0]

    def extract(self, subnet: Subnet) -> Detector:
        """The subnet as a detector of its own, with the super-network's statistics.

        It computes what the super-network computes within `elastic.masked`. Where it is used, its
        batch norms need statistics of their own: `ready`.
        """
        self._check(subnet)
        encoding, weights = extraction.extract(
            self._encoding,
            self._weights,
            subnet,
            self.space.full_width,
            model_readers(self.model),
        )
        config = dataclasses.replace(
            self.model.config, backbone=encoding, image_size=subnet.image_size
        )
        detector = type(self.model).from_record(config, self.model.name)
        detector.build_variables()
        put_weights(detector, weights)
        return detector

    def ready(self, subnet: Subnet) -> Detector:
        """The subnet as a detector of its own, ready to be measured, or trained on."""
        detector = self.extract(subnet)
        batch_statistics.recompute(detector, self._batches(subnet.image_size))
        return detector

    def teacher_for(self, student: Detector, subnet: Subnet, allow_smaller: bool = False) -> Any:
        """The frozen teacher of a student; the last few are kept.

        Args:
            student: who is taught; it must have the same classes.
            subnet: which teacher.
            allow_smaller: it may have fewer parameters than the student.
        """
        teacher = self._teacher(subnet)
        distill.check_pair(student, teacher, allow_smaller)
        return teacher

    def subnet_for(self, student: Detector, subnet: Subnet, random: np.random.Generator) -> Subnet:
        """The next teacher of a student: a mutation of `subnet` that is not smaller than it.

        The largest subnet is taken where none of many mutations is as large.
        """
        wanted = distill.parameters(student)
        for _ in range(_TRIES):
            new = self.space.mutate(subnet, random)
            if self.parameters(new) >= wanted:
                return new
        return dataclasses.replace(self.space.largest, image_size=subnet.image_size)

    def parameters(self, subnet: Subnet) -> int:
        """Parameters of the subnet, as `distill.parameters` counts them."""
        encoding = self.encoding(subnet)
        shared = self.model.neck.count_params() - _lateral(self._encoding, self.model)
        shared += self.model.rpn.count_params() + self.model.box_head.count_params()
        return shared + _lateral(encoding, self.model) + backbone_parameters(encoding)

    def _make_teacher(self, subnet: Subnet) -> Detector:
        teacher = self.ready(subnet)
        teacher.trainable = False
        return teacher

    def _check(self, subnet: Subnet) -> None:
        if subnet not in self.space:
            raise UserError(
                f"the pool has no subnet {subnet}: depths {self.space.depths}, widths "
                f"{self.space.widths}, sizes {self.space.sizes}"
            )


def backbone_parameters(encoding: Encoding) -> int:
    """Parameters of a ResNet, statistics of batch norms included."""
    total = _conv(3, encoding.stem, 7)
    for place, block in encoding.blocks():
        width = encoding.in_width(place)
        if block.projection:
            total += _conv(width, block.out_width, 1)
        for i, filters in enumerate(block.widths, start=1):
            size = 3 if block.is_basic or i == 2 else 1
            total += _conv(width // (block.groups if i == 2 else 1), filters, size)
            width = filters
    return total


def _conv(inputs: int, filters: int, size: int) -> int:
    """A convolution and the four values per channel of the batch norm behind it."""
    return filters * (inputs * size**2 + 4)


def _lateral(encoding: Encoding, model: Any) -> int:
    """What the feature pyramid's weights that read the backbone come to, without biases."""
    return sum(encoding.out_widths) * model.config.fpn_width


def _training_batches(
    recipe: Any, model: Detector, data: str, count: int
) -> Callable[[tuple[int, int]], Iterable[Any]]:
    """Batches of a recipe's training images, augmented as they were in training."""
    classes = model.config.class_names, model.config.class_ids
    dataset = sources.open_dataset(data or recipe.data.train, *classes)
    size = min(recipe.train.batch_size, len(dataset))

    def batches(image_size: tuple[int, int]) -> Iterable[Any]:
        endless = pipeline.train_batches(
            dataset,
            image_size,
            size,
            recipe.data.augment,
            recipe.train.seed,
            model.pad_value,
            max_boxes=recipe.data.max_boxes,
            mask_size=model.mask_size,
        )
        return itertools.islice(endless, -(-count // size))

    return batches
