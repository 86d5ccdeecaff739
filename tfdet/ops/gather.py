"""Picking rows of a batch by index."""

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
    batch, rows, *tail = ops.shape(values)
    table = ops.reshape(values, (batch * rows, *tail))
    return ops.take(table, indices + rows * ops.arange(batch, dtype="int32")[:, None], axis=0)
