"""Tensors of other projects' checkpoints, and the variables that they are for."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np


class CheckpointTensor(NamedTuple):
    """A tensor of a checkpoint.

    Attributes:
        name: its key.
        shape: its shape there (OIHW for PyTorch's kernels).
        variable: ours, or None for what is deliberately unused: counters, anchors, classifiers.
        convert: from the checkpoint's layout to the variable's; None is PyTorch's: kernels from
            OIHW to HWIO, everything else as it is.
        per_class: whether an axis of it counts classes: such a tensor of other classes is left out,
            and its variable is new.
    """

    name: str
    shape: tuple[int, ...]
    variable: keras.Variable | None
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    per_class: bool = False

    def assign(self, array: np.ndarray) -> bool:
        """Gives the variable a value in the checkpoint's layout.

        False, and nothing is done, where there is no variable, or one of another size.
        """
        if self.convert is not None:
            array = self.convert(array)
        elif array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        if self.variable is None or array.size != math.prod(self.variable.shape):
            return False
        self.variable.assign(array.reshape(self.variable.shape))
        return True


def kernel(name: str, layer: Any) -> CheckpointTensor:
    """The kernel of a convolution, OIHW in the checkpoint."""
    height, width, inputs, outputs = layer.kernel.shape
    return CheckpointTensor(name, (outputs, inputs, height, width), layer.kernel)


def vector(name: str, variable: keras.Variable) -> CheckpointTensor:
    """A bias, or another tensor of the same shape on both sides."""
    return CheckpointTensor(name, tuple(variable.shape), variable)


def unchanged(name: str, variable: keras.Variable) -> CheckpointTensor:
    """A tensor of TensorFlow's, in the layout of the variable."""
    return CheckpointTensor(name, tuple(variable.shape), variable, lambda array: array)


def batch_norm(prefix: str, bn: Any) -> Iterator[CheckpointTensor]:
    """The five tensors of one of PyTorch's batch norms."""
    yield vector(f"{prefix}.weight", bn.gamma)
    yield vector(f"{prefix}.bias", bn.beta)
    yield vector(f"{prefix}.running_mean", bn.moving_mean)
    yield vector(f"{prefix}.running_var", bn.moving_variance)
    yield CheckpointTensor(f"{prefix}.num_batches_tracked", (), None)
