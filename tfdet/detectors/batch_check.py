"""What users give to `fit`, `evaluate`, `predict` and `detect`: sentences where it cannot be right.

Shapes are looked at while a step is traced, values within it.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfdet.errors import UserError

_MIN_BOXES = 2  # a single one within the first pixel may be so
_MARK = "tfdet: "  # by which the sentences are found in what TensorFlow raises
_OTHER_NAMES = {"classes": "labels", "class_ids": "labels", "bboxes": "boxes", "bbox": "boxes"}


def as_images(images: Any) -> Any:
    """Images as `detect` takes them; refuses what are none."""
    if isinstance(images, (str, bytes, Mapping)) or images is None:
        raise UserError(f"expected images [B, H, W, 3], got {type(images).__name__}")
    if not keras.ops.is_tensor(images):
        try:
            images = np.asarray(images)
        except ValueError:
            raise UserError(
                "expected images [B, H, W, 3] of one size, got some of different sizes; "
                "detect in one after the other"
            ) from None
    check_images(images)
    return images


def check_images(images: Any) -> None:
    """Refuses what are no images [B, H, W, 3] of numbers, as far as the shape is known."""
    kind = np.dtype(getattr(images.dtype, "as_numpy_dtype", images.dtype)).kind
    if kind not in "uifV":  # V: bfloat16
        raise UserError(f"expected images of numbers from 0 to 255, got the dtype {images.dtype}")
    if images.shape is None or getattr(images.shape, "rank", 0) is None:
        return
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[3] not in (3, None):
        raise UserError(f"expected images [B, H, W, 3] in RGB, got {list(shape)}{_hint(shape)}")
    if 0 in shape:
        raise UserError(f"expected at least one image with pixels, got {list(shape)}")


def _hint(shape: tuple[int | None, ...]) -> str:
    if len(shape) == 3 and shape[2] == 3:
        return "; images[None] makes a batch of one"
    if len(shape) == 3 or shape[-1:] == (1,):
        return "; grey images need their channel three times"
    if len(shape) == 4 and shape[3] == 4:
        return "; images[..., :3] is without alpha"
    if len(shape) == 4 and shape[1] == 3:
        return "; the channels must be last"
    return ""


def warn_of_fractions(images: Any) -> None:
    """Warns of an array of images that seem to reach from 0 to 1 instead of 255."""
    is_float = isinstance(images, np.ndarray) and images.dtype.kind == "f"
    if is_float and images.size and 0 < images.max() <= 1:
        warnings.warn(
            "detectors take images from 0 to 255, and these reach 1 at most; multiply them by 255",
            stacklevel=3,
        )


def checked_step(
    data: Any, image_size: tuple[int, int], num_classes: int, mask_size: int
) -> tuple[Any, Any]:
    """(images, targets) of what Keras gives to a step; refuses what no detector is trained on.

    Args:
        data: (images, targets), perhaps with weights of samples.
        image_size: (height, width) of the detector.
        num_classes: of the detector.
        mask_size: side of the masks that it is trained on; 0 for none.
    """
    images, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise UserError(
            "detectors take neither sample_weight nor class_weight; boxes that shall not count "
            "get the label -1"
        )
    if not hasattr(images, "shape"):
        raise UserError("expected images [B, H, W, 3] and targets, in this order")
    check_images(images)
    if any(
        side not in (own, None) for side, own in zip(images.shape[1:3], image_size, strict=True)
    ):
        raise UserError(
            f"expected images of {image_size[0]}x{image_size[1]} pixels, got {list(images.shape)}; "
            "resize them and their boxes, or create the detector with their image_size"
        )
    _check_targets(targets, mask_size)
    return images, _within_range(targets, num_classes)


def check_arrays(targets: Any, num_classes: int) -> None:
    """Looks at the values of targets that are arrays, since XLA leaves out what a step looks at."""
    if not isinstance(targets, Mapping):
        return
    if not all(isinstance(values, np.ndarray) for values in targets.values()):
        return
    _check_targets(targets, 0)
    if len(targets["boxes"]) == len(targets["labels"]):
        _within_range(targets, num_classes)


def _check_targets(targets: Any, mask_size: int) -> None:
    wanted = {"boxes": 3, "labels": 2} | ({"masks": 4} if mask_size else {})
    if not isinstance(targets, Mapping):
        raise UserError(f"targets must be a dict with {_listed(wanted)}, got {_kind(targets)}")
    missing = [name for name in wanted if name not in targets]
    if missing:
        other = [key for key in targets if _OTHER_NAMES.get(str(key)) == missing[0]]
        hint = f"; {other[0]!r} must be called {missing[0]!r}" if other else ""
        raise UserError(
            f"targets must be a dict with {_listed(wanted)}; {missing[0]!r} is missing among "
            f"{sorted(map(str, targets))}{hint}"
        )
    shapes = {name: _shape(name, targets[name]) for name in wanted}
    ends = {"boxes": (4,), "labels": (), "masks": (mask_size, mask_size)}
    rows = {shape[1] for shape in shapes.values() if shape and len(shape) > 1} - {None}
    for name, shape in shapes.items():
        if shape is None:
            continue
        is_right = len(shape) == wanted[name] and all(
            found in (end, None) for found, end in zip(shape[2:], ends[name], strict=True)
        )
        if not is_right:
            raise UserError(
                f"targets[{name!r}] must be {_form(name, mask_size)}, got {list(shape)}"
                + ("; boxes are xyxy in pixels of the images" if name == "boxes" else "")
            )
    if len(rows) > 1:
        raise UserError(
            "boxes and labels must have as many rows, M, each; got "
            + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items() if shape)
        )


def _shape(name: str, values: Any) -> tuple[int | None, ...] | None:
    """Of a target; None where it is not known."""
    if hasattr(values, "to_tensor"):
        raise UserError(
            f"targets[{name!r}] is ragged; pad it, with the label -1: "
            f"values.to_tensor({-1 if name == 'labels' else 0})"
        )
    shape = getattr(values, "shape", None)
    return None if shape is None or getattr(shape, "rank", 0) is None else tuple(shape)


def _form(name: str, mask_size: int) -> str:
    masks = f"[B, M, {mask_size}, {mask_size}]"
    return {"boxes": "[B, M, 4]", "labels": "[B, M]", "masks": masks}[name]


def _listed(wanted: Mapping[str, int]) -> str:
    return ", ".join(wanted)


def _kind(targets: Any) -> str:
    return "none" if targets is None else f"a {type(targets).__name__}"


def _within_range(targets: Any, num_classes: int) -> dict[str, Any]:
    """The targets, behind a look at their values; unchanged where TensorFlow is not in use."""
    if keras.backend.backend() != "tensorflow":
        return targets
    import tensorflow as tf

    labels = tf.cast(targets["labels"], tf.int32)
    boxes = tf.cast(targets["boxes"], tf.float32)
    least, most = tf.reduce_min(labels), tf.reduce_max(labels)
    is_free = labels < 0  # the row of a box is; masks, since XLA has no shapes that values decide
    used = tf.where(is_free[..., None], 0.0, boxes)
    count = tf.reduce_sum(tf.cast(~is_free, tf.int32))
    looked = [
        _look(
            (tf.size(labels) == 0) | ((least >= -1) & (most < num_classes)),
            f"labels must be 0 to {num_classes - 1}, and -1 for padding; got",
            *(least, "to", most),
        ),
        _look(tf.reduce_all(tf.math.is_finite(used)), "boxes must be finite; got NaN or infinity"),
        _look(
            ~tf.reduce_any(used[..., 2:] < used[..., :2]),
            "boxes must be xyxy; got some whose right or lower side comes first",
        ),
        _look(
            (count < _MIN_BOXES) | ~(tf.reduce_max(used) <= 1),
            "boxes must be in pixels of the images; got a batch of boxes from 0 to 1",
        ),
    ]
    with tf.control_dependencies([x for x in looked if x is not None]):
        return {**targets, "labels": tf.identity(targets["labels"])}


def _look(is_right: Any, *sentence: Any) -> Any:
    import tensorflow as tf

    return tf.debugging.Assert(is_right, [_MARK + sentence[0], *sentence[1:]])


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Within the block, what a step finds in its values is a `UserError`."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        sentence = _sentence(str(error))
        if not sentence:
            raise
        raise UserError(sentence) from None


def _sentence(text: str) -> str:
    """What `_look` said, as a graph reports it or as a step that runs eagerly does; "" for none."""
    graph = re.search(rf"\[{_MARK}(.*)\]$", text, re.MULTILINE)
    if graph:
        return graph[1].replace("] [", " ")
    eager = re.search(rf"b'{_MARK}(.*)'((?:\n.+)*)", text)
    return " ".join([eager[1], *eager[2].replace("b'to'", "to").split()]) if eager else ""
