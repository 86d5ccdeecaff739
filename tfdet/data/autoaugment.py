"""AutoAugment's detection policy v0 and RandAugment (https://arxiv.org/abs/1906.11172)."""

from collections.abc import Callable

import tensorflow as tf

from tfdet.data import affine, colour

# Sub-policies of (operation, probability, level 0-10), as published with EfficientDet.
POLICY_V0 = (
    (("translate_x", 0.6, 4), ("equalize", 0.8, 10)),
    (("translate_y_in_boxes", 0.2, 2), ("cutout", 0.8, 8)),
    (("sharpness", 0.0, 8), ("shear_x", 0.4, 0)),
    (("shear_y", 1.0, 2), ("translate_y_in_boxes", 0.6, 6)),
    (("rotate", 0.6, 10), ("colour", 1.0, 6)),
)
RANDAUGMENT_OPERATIONS = (
    "equalize",
    "solarize",
    "colour",
    "cutout",
    "solarize_add",
    "translate_x",
    "translate_y",
    "shear_x",
    "shear_y",
    "rotate",
)
RANDAUGMENT_LEVEL = 15
POLICIES = ("v0", "randaug")


def apply_policy(
    policy: str, image: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A uint8 image [H, W, 3] and its boxes [N, 4] (xyxy) after a random sub-policy.

    Args:
        policy: "v0", or "randaug": one operation at level 15, with a probability of 0.2 to 0.8.
        image, boxes: what is changed; boxes that leave the image have no area afterwards.
        seed: [2].
    """
    choice_seed, work_seed, chance_seed = tf.unstack(tf.random.split(seed, 3))
    if policy == "v0":
        chains = POLICY_V0
    else:
        chance = tf.random.stateless_uniform([], chance_seed, 0.2, 0.8)
        chains = [((name, chance, RANDAUGMENT_LEVEL),) for name in RANDAUGMENT_OPERATIONS]
    choice = tf.random.stateless_uniform([], choice_seed, 0, len(chains), tf.int32)
    branches = [_chain(chain, image, boxes, work_seed) for chain in chains]
    return tf.switch_case(choice, branches)


def _chain(chain, image, boxes, seed) -> Callable:
    def run():
        moved_image, moved_boxes = image, boxes
        seeds = tf.unstack(tf.random.split(seed, len(chain)))
        for (name, probability, level), step_seed in zip(chain, seeds, strict=True):
            moved_image, moved_boxes = _maybe(
                name, probability, level, moved_image, moved_boxes, step_seed
            )
        return moved_image, moved_boxes

    return run


def _maybe(name, probability, level, image, boxes, seed):
    """One operation, applied with its probability."""
    chance_seed, sign_seed, work_seed = tf.unstack(tf.random.split(seed, 3))
    sign = tf.where(tf.random.stateless_uniform([], sign_seed) < 0.5, -1.0, 1.0)
    if name == "translate_y_in_boxes":
        # Published: operations inside of boxes happen with a third of the probability, per box.
        shift = sign * 120 * level / 10
        return translate_y_in_boxes(image, boxes, shift, probability / 3, work_seed), boxes
    is_applied = tf.random.stateless_uniform([], chance_seed) < probability
    return tf.cond(
        is_applied,
        lambda: operate(name, level / 10, image, boxes, sign, work_seed),
        lambda: (image, boxes),
    )


def operate(
    name: str, strength: float, image: tf.Tensor, boxes: tf.Tensor, sign: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """An operation of the policies; strength is the level over 10, sign a random -1 or 1."""
    zero = tf.constant(0.0)
    matrices = {
        "translate_x": lambda: affine.translation(sign * 250 * strength, zero),
        "translate_y": lambda: affine.translation(zero, sign * 250 * strength),
        "shear_x": lambda: affine.shear(sign * 0.3 * strength, zero),
        "shear_y": lambda: affine.shear(zero, sign * 0.3 * strength),
        "rotate": lambda: affine.rotation(sign * 30 * strength, tf.shape(image)),
    }
    if name in matrices:
        return affine.transform(image, boxes, matrices[name]())
    factor = 0.1 + 1.8 * strength
    pixels = {
        "equalize": lambda: colour.equalize(image),
        "colour": lambda: colour.colour(image, factor),
        "sharpness": lambda: colour.sharpness(image, factor),
        "cutout": lambda: colour.cutout(image, 100 * strength, seed),
        "solarize": lambda: colour.solarize(image, 256.0 * strength),
        "solarize_add": lambda: colour.solarize_add(image, 110.0 * strength),
    }
    return pixels[name](), boxes


def translate_y_in_boxes(
    image: tf.Tensor, boxes: tf.Tensor, shift: tf.Tensor, probability: float, seed: tf.Tensor
) -> tf.Tensor:
    """Shifts what is inside of some boxes up or down, within the box; the boxes stay."""
    is_chosen = tf.random.stateless_uniform([tf.shape(boxes)[0]], seed) < probability
    limits = tf.tile(tf.reverse(tf.shape(image)[:2], [0]), [2])
    corners = tf.clip_by_value(tf.cast(tf.round(boxes), tf.int32), 0, limits)
    has_area = tf.reduce_all(corners[:, 2:] > corners[:, :2], axis=1)
    chosen = tf.boolean_mask(corners, is_chosen & has_area)
    matrix = affine.translation(tf.constant(0.0), shift)

    def shift_one(k, image):
        x0, y0, x1, y1 = tf.unstack(chosen[k])
        part = affine.transform_pixels(image[y0:y1, x0:x1], matrix)
        middle = tf.concat([image[y0:y1, :x0], part, image[y0:y1, x1:]], axis=1)
        return k + 1, tf.concat([image[:y0], middle, image[y1:]], axis=0)

    # Few boxes are chosen, so that a loop over them costs less than work on all.
    _, image = tf.while_loop(
        lambda k, _: k < tf.shape(chosen)[0],
        shift_one,
        [tf.constant(0), image],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, None, 3])],
    )
    return image
