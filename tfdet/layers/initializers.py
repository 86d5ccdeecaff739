"""Starting values that several networks share."""

import math

import keras

# Normal with std sqrt(2 / (kernel area * output channels)); for a depthwise kernel the output
# channels are the multiplier, 1. A configuration and not an object: each layer draws its own
# numbers.
FAN_OUT_NORMAL = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}

# With this bias a fresh class predictor gives every class a probability of 0.01 (RetinaNet, section
# 4.1).
RARE_CLASS_BIAS = -math.log((1 - 0.01) / 0.01)


def uniform_kernel() -> keras.initializers.Initializer:
    """Uniform in ±1/sqrt(inputs of an output), PyTorch's default for convolutions."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def uniform_bias(fan_in: int) -> keras.initializers.Initializer:
    """Uniform in ±1/sqrt(fan_in), for the bias of a layer whose outputs have that many inputs."""
    limit = 1 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit)
