"""The loss of Mask R-CNN's masks: https://arxiv.org/abs/1703.06870."""

from keras import ops

from tfdet.losses import replicas
from tfdet.losses.roi import Samples
from tfdet.ops import masks as mask_ops
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor


def mask_loss_term(mask_logits, targets: dict[str, Tensor], samples: Samples):
    """Mean cross-entropy over the cells of the positives' masks, of their own class; float32.

    Args:
        mask_logits: [B, S, h, w, C], any float dtype, of the samples.
        targets: "boxes" [B, M, 4] and "masks" [B, M, Q, Q], 0 or 1 in the frames of these boxes.
        samples: what the head has seen.
    """
    is_positive = samples.labels >= 0
    logits = own_masks(mask_logits, samples.labels)
    logits = ops.cast(logits, "float32")  # [B, S, h, w]
    size = tuple(mask_logits.shape[2:4])
    wanted = target_masks(targets, samples, size)
    loss = ops.softplus(logits) - wanted * logits
    total = ops.sum(ops.where(is_positive[..., None, None], loss, 0.0))
    count = replicas.sum_over_replicas(ops.sum(ops.cast(is_positive, "float32")))
    return total / (ops.maximum(count, 1.0) * size[0] * size[1])


def target_masks(targets: dict[str, Tensor], samples: Samples, size: tuple[int, int]):
    """What the masks of the samples should be, [B, S, *size] of 0 and 1."""
    rows = ops.maximum(samples.objects, 0)
    masks = ops.cast(gather_rows(targets["masks"], rows), "float32")
    boxes = gather_rows(targets["boxes"], rows)
    return ops.cast(mask_ops.crop(masks, boxes, samples.boxes, size) >= 0.5, "float32")


def own_masks(masks, labels):
    """The mask of each row's class: [B, N, h, w, C] and [B, N] -> [B, N, h, w]."""
    index = ops.maximum(labels, 0)[..., None, None, None]
    return ops.take_along_axis(masks, index, axis=-1)[..., 0]
