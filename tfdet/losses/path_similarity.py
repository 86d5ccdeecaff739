"""Images with objects of like sizes shall take like paths: arXiv 2012.04265, equations 5 to 8."""

from typing import Any

from keras import ops

from tfdet.losses import replicas
from tfdet.tensors import Tensor

# Of the squared norms: the gradient of a root at 0 is not finite.
_EPSILON = 1e-12


def path_similarity(gates: Tensor) -> Any:
    """[B, B] cosines between the gates [B, gates] of images."""
    squares = ops.sum(ops.square(gates), axis=-1, keepdims=True)
    rows = gates * ops.rsqrt(squares + _EPSILON)
    return ops.matmul(rows, ops.transpose(rows))


def code_similarity(codes: Tensor) -> Any:
    """[B, B] the part of the intervals in which two codes [B, intervals] of 0 and 1 agree."""
    absent = 1.0 - codes
    both = ops.matmul(codes, ops.transpose(codes))
    neither = ops.matmul(absent, ops.transpose(absent))
    return (both + neither) / codes.shape[-1]


def path_similarity_loss(
    gates: Tensor, codes: Tensor, low: float, high: float, per_replica: bool = False
) -> Any:
    """How far the similarity of paths is from that of scale codes, a replica's share; a scalar.

    The sum over all pairs of images of squared distances, divided by the images. On several
    replicas the pairs are those of the global batch, as in the paper's batch of 16, unless each
    replica is to have its own; the loss is then the mean of theirs.

    Args:
        gates: [B, gates] float32.
        codes: [B, intervals] of 0 and 1.
        low, high: similarity that is wanted where codes differ everywhere and where they are equal.
        per_replica: see above.
    """
    if per_replica:
        with replicas.alone():
            own = path_similarity_loss(gates, codes, low, high)
        return replicas.total_to_share(own)
    gates, codes, is_shared = _of_all_replicas(gates, codes)
    wanted = code_similarity(codes) * (high - low) + low
    distances = ops.square(path_similarity(gates) - ops.stop_gradient(wanted))
    images = ops.cast(ops.shape(gates)[0], "float32")
    loss = ops.sum(ops.triu(distances, k=1)) / images
    if not is_shared:
        return loss
    # Every replica has the whole sum, of which only its own images have a gradient here: the value
    # is shared among the replicas, and the gradient is not.
    value = ops.stop_gradient(loss)
    return replicas.total_to_share(value) + (loss - value)


def _of_all_replicas(gates: Tensor, codes: Tensor) -> tuple[Any, Any, bool]:
    """Gates and codes of the global batch; those of other replicas have no gradient."""
    if replicas.count() == 1:
        return gates, codes, False
    everyone, start = replicas.gather_over_replicas(ops.stop_gradient(gates))
    everyones_codes, _ = replicas.gather_over_replicas(codes)
    own = ops.shape(gates)[0]
    rows = [everyone[:start], gates, everyone[start + own :]]
    return ops.concatenate(rows, axis=0), everyones_codes, True
