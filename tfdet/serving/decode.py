"""Encoded bytes to upright pixels inside a TensorFlow graph."""

import tensorflow as tf

from tfdet.limits import MAX_IMAGE_PIXELS
from tfdet.serving.claimed_size import claims_too_much

# Where cameras write EXIF: before the pixels, in a segment of at most 64 KB; the rest of the file
# is not looked at.
_HEAD_BYTES = 1 << 18
_ORIENTATION_TAG = 0x0112
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_EXIF_SIGNATURE = (0x45, 0x78, 0x69, 0x66, 0, 0)  # "Exif", two zeros


def decode_upright(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG, PNG, GIF (first frame), BMP or WebP and turns it as its EXIF says.

    `tf.io.decode_image` ignores the orientation that cameras store in JPEG files, so that pixels
    and boxes would lie sideways.

    A header that claims more than `MAX_IMAGE_PIXELS` is an error before anything is decoded: 281 KB
    can be a PNG of 17000x17000, which costs a server gigabytes.

    Args:
        encoded: scalar string.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    is_small = ~claims_too_much(encoded)
    sentence = f"the image has more than {MAX_IMAGE_PIXELS} pixels"
    with tf.control_dependencies([tf.debugging.Assert(is_small, [sentence])]):
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, 3])
    turn = jpeg_orientation(encoded)
    pixels = tf.cond(turn >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    pixels = _flip_if(pixels, turn, (2, 3, 6, 7), axis=1)
    return _flip_if(pixels, turn, (3, 4, 7, 8), axis=0)


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """EXIF orientation 1–8 of an encoded image, scalar int32; 1 where there is none."""
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD_BYTES), tf.uint8)
    size = tf.size(head)
    # Zeros behind the end: reading past it then finds nothing instead of failing.
    head = tf.cast(tf.pad(head, [[0, 64]]), tf.int32)
    is_jpeg = (head[0] == 0xFF) & (head[1] == 0xD8)

    def is_searching(position: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
        in_segments = (head[position] == 0xFF) & (head[position + 1] != _START_OF_SCAN)
        return is_jpeg & (tiff < 0) & (position < size) & in_segments

    def next_segment(position: tf.Tensor, tiff: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_exif = (head[position + 1] == _APP1) & tf.reduce_all(
            head[position + 4 : position + 10] == tf.constant(_EXIF_SIGNATURE)
        )
        length = head[position + 2] * 256 + head[position + 3]
        # A segment is at least its length field; less is a damaged file that would not advance.
        following = tf.minimum(position + 2 + tf.maximum(length, 2), size)
        return following, tf.where(is_exif, position + 10, tiff)

    _, tiff = tf.while_loop(is_searching, next_segment, (2, -1))
    return tf.cond(tiff >= 0, lambda: _tiff_orientation(head[tiff:]), lambda: 1)


def _tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    is_little_endian = tiff[0] == 0x49  # "II"; otherwise "MM"
    end = tf.size(tiff) - 4  # of the padding, so that 4 bytes can be read from every position

    def number(position: tf.Tensor, places: int) -> tf.Tensor:
        clipped = tf.clip_by_value(position, 0, end)
        digits = tf.stack([tf.gather(tiff, clipped + i) for i in range(places)], axis=-1)
        digits = tf.where(is_little_endian, tf.reverse(digits, [-1]), digits)
        weights = [256 ** (places - 1 - i) for i in range(places)]
        return tf.reduce_sum(digits * weights, axis=-1)

    directory = number(4, 4)
    entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), 1000))
    found = tf.where((number(entries, 2) == _ORIENTATION_TAG) & (entries + 12 <= end))[:, 0]
    value = tf.reduce_sum(number(tf.gather(entries, found[:1]) + 8, 2))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _flip_if(pixels: tf.Tensor, turn: tf.Tensor, turns: tuple[int, ...], axis: int) -> tf.Tensor:
    is_flipped = tf.reduce_any(turn == tf.constant(turns))
    return tf.cond(is_flipped, lambda: tf.reverse(pixels, [axis]), lambda: pixels)
