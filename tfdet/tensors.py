"""Names for tensors in signatures."""

from typing import Any, TypeAlias

# What `keras.ops` takes and returns: a tf.Tensor, a jax.Array, a keras.KerasTensor, or something
# that becomes one (a NumPy array, a variable). Backends share no class; type checkers see Any.
Tensor: TypeAlias = Any
