"""Picking rows of a batch by index."""

import keras
import numpy as np
from keras import ops


def gather_rows(values, indices):
    """Rows of each batch entry: `result[b, n] = values[b, indices[b, n]]`.

    Args:
        values: [B, K, ...].
        indices: [B, N] int32 in [0, K).

    Returns:
        [B, N, ...]. Whole rows are copied from one flat table, which is several times faster than
        an element-wise `take_along_axis`.
    """
    if any(map(keras.utils.is_keras_tensor, (values, indices))):  # whose batch may have no size
        shape = (values.shape[0], indices.shape[1], *values.shape[2:])
        return keras.KerasTensor(shape, keras.backend.standardize_dtype(values.dtype))
    batch, rows, *tail = ops.shape(values)
    table = ops.reshape(values, (batch * rows, *tail))
    is_known = isinstance(batch, int) and isinstance(rows, int)  # then no part of a graph
    images = np.arange(batch, dtype=np.int32) if is_known else ops.arange(batch, dtype="int32")
    return _take(table, indices + (rows * images)[:, None])


def _take(table, indices):
    """Rows of `table`; without the twenty operations by which `ops.take` reads negative indices."""
    if keras.backend.backend() != "tensorflow":
        return ops.take(table, indices, axis=0)
    import tensorflow as tf

    return tf.gather(table, indices)
