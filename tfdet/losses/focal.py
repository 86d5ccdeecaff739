"""Focal loss for classification without a background class."""

from keras import ops


def focal_loss(logits, labels, alpha: float = 0.25, gamma: float = 1.5, label_smoothing=0.0):
    """Sum of the sigmoid focal losses of all logits (https://arxiv.org/abs/1708.02002).

    Args:
        logits: [..., C] float32.
        labels: [...] int32 class of each row, -1 = background (all C targets are 0).
        alpha: weight of the positive logits; the others weigh 1 - alpha.
        gamma: how much well classified logits are damped.
        label_smoothing: the cross-entropy aims at `y * (1 - s) + s / 2`; the damping at y.

    Returns:
        Scalar float32.

    Nearly every target is 0, so the sum over "all targets are 0" is corrected at the one positive
    logit of each labelled row. That needs no one-hot tensor of the logits' size.
    """
    positive_aim, negative_aim = 1.0 - 0.5 * label_smoothing, 0.5 * label_smoothing
    if_negative = _damped(logits, gamma, negative_aim) * (1.0 - alpha)
    is_positive = labels >= 0
    chosen = ops.take_along_axis(logits, ops.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    # A positive with logit x is a negative with logit -x whose aim is mirrored.
    correction = alpha * _damped(-chosen, gamma, 1.0 - positive_aim)
    correction -= (1.0 - alpha) * _damped(chosen, gamma, negative_aim)
    return ops.sum(if_negative) + ops.sum(ops.where(is_positive, correction, 0.0))


def _damped(logits, gamma, aim):
    """sigmoid(x)^gamma * (softplus(x) - aim * x): the loss of negatives before alpha."""
    softplus = ops.softplus(logits)
    cross_entropy = softplus - aim * logits if aim else softplus
    return ops.exp(gamma * (logits - softplus)) * cross_entropy
