"""Starting values of networks that were first trained with PyTorch's defaults."""

import math

import keras


def uniform_kernel() -> keras.initializers.Initializer:
    """Uniform in ±1/sqrt(inputs of an output), PyTorch's default for convolutions."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def uniform_bias(fan_in: int) -> keras.initializers.Initializer:
    """Uniform in ±1/sqrt(fan_in), for the bias of a layer whose outputs have that many inputs."""
    limit = 1 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit)
