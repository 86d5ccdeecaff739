"""Random choices of fixed size that follow from a seed alone, on any Keras backend."""

from keras import ops

# The multipliers of a well-mixing 32-bit hash (https://github.com/skeeto/hash-prospector).
_MIX = (0x7FEB352D, 0x846CA68B - (1 << 32))


def noise(shape: tuple[int, ...], *seeds):
    """Numbers in [0, 1) that look random, float32 [*shape]; a function of shape and seeds.

    Keras has no stateless random numbers, and its stateful ones would give a resumed run others
    than the run that it resumes from.

    Args:
        shape: may hold tensors.
        *seeds: whole numbers, as Python numbers or int32 scalars.
    """
    count = 1
    for side in shape:
        count = count * side
    state = ops.arange(count, dtype="int32")
    for seed in seeds:
        state = _mixed(state + _mixed(ops.cast(seed, "int32") + 1))
    # 24 bits, what a float32 holds exactly.
    bits = ops.bitwise_and(state, (1 << 24) - 1)
    return ops.reshape(ops.cast(bits, "float32") / float(1 << 24), shape)


def choose(is_positive, is_negative, count: int, max_positives: int, seed_noise):
    """Picks `count` rows of each image: at most `max_positives` positives, the rest negatives.

    Args:
        is_positive, is_negative: [B, K] bool, never both.
        count: rows to pick, at most K.
        max_positives: fewer are taken where there are fewer; negatives take their place.
        seed_noise: [B, K] in [0, 1); among rows of a kind those with the largest are picked.

    Returns:
        `(index [B, count] int32, is_valid [B, count] bool)`, positives first. Where an image has
        too few rows, the others are not valid.
    """
    kinds = [ops.where(is_kind, seed_noise + 1.0, 0.0) for is_kind in (is_positive, is_negative)]
    size = is_positive.shape[1]
    limits = (min(max_positives, size), min(count, size))
    (good, good_rows), (bad, bad_rows) = (
        ops.top_k(kind, limit) for kind, limit in zip(kinds, limits, strict=True)
    )
    # Valid positives, then valid negatives, then the others; top_k keeps equal ones in order.
    order = ops.concatenate([ops.where(good > 0, 2.0, 0.0), ops.where(bad > 0, 1.0, 0.0)], axis=1)
    rank, place = ops.top_k(order, min(count, sum(limits)))
    rows = ops.concatenate([good_rows, bad_rows], axis=1)
    return ops.cast(ops.take_along_axis(rows, place, axis=1), "int32"), rank > 0


def _mixed(state):
    for shift, factor in zip((16, 15), _MIX, strict=True):
        state = ops.bitwise_xor(state, _shifted(state, shift)) * factor
    return ops.bitwise_xor(state, _shifted(state, 16))


def _shifted(state, places: int):
    """The bits moved right, with zeros from the left, where an int32 would repeat its sign."""
    return ops.bitwise_and(ops.right_shift(state, places), (1 << (32 - places)) - 1)
