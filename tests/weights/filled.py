"""Checkpoints of seeded numbers, and models that have taken one."""

from collections.abc import Mapping

import keras
import numpy as np

from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.source import Source


def arrays(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """A value for each tensor: kernels that keep the size of what they convolve, others near 1 or
    0, and variances from 0.5 to 1.5.
    """
    random = np.random.default_rng(seed)
    return {name: _array(name, shape, random) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    values = random.uniform(-1, 1, shape)
    if "var" in name.rsplit(".", 1)[-1].rsplit("/", 1)[-1]:
        values = 1 + values / 2
    elif len(shape) < 2:
        is_scale = name.endswith((".weight", "gamma", "WSM", "WSM_1", "WSM_2"))
        values = (1.0 if is_scale else 0.0) + values / 5
    else:
        # In PyTorch's order of axes or TensorFlow's, the outputs are the first or the last.
        is_pytorch = name.endswith((".weight", ".bias"))
        fan = np.prod(shape[1:] if is_pytorch else shape[:-1])
        fan = np.prod(shape[:2]) if shape[-1] == 1 and not is_pytorch else fan
        values = values * np.sqrt(6 / fan)
    return values.astype("float32")


def images(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Random pixels 0-255 [count, *size, 3] in patches; deep maps of mere noise are all alike."""
    random = np.random.default_rng(seed)
    rows, columns = (-(-side // 16) for side in size)
    patches = random.uniform(0, 200, (count, rows, columns, 3)).repeat(16, 1).repeat(16, 2)
    noise = random.uniform(0, 55, (count, *size, 3))
    return (patches[:, : size[0], : size[1]] + noise).astype("float32")


def take(
    model: keras.Model, source: Source, values: Mapping[str, np.ndarray]
) -> list[CheckpointTensor]:
    """Assigns a checkpoint; asserts that each tensor has its entry, and each entry its tensor."""
    shapes = {name: tuple(array.shape) for name, array in values.items()}
    entries = source.entries(model, shapes)
    assert {entry.name for entry in entries} == shapes.keys()
    assert {entry.name: tuple(entry.shape) for entry in entries} == shapes
    for entry in entries:
        if entry.variable is not None:
            assert entry.assign(values[entry.name]), entry.name
    return entries


def assert_filled_once(entries: list[CheckpointTensor], variables: list[keras.Variable]) -> None:
    """Each of the variables has one entry, and no other variable has any."""
    found = sorted(id(entry.variable) for entry in entries if entry.variable is not None)
    assert found == sorted(id(variable) for variable in variables)
