"""How many pixels an encoded image claims to have, found out in a graph without decoding it."""

import tensorflow as tf

from tfdet.limits import MAX_IMAGE_PIXELS

_HEAD_BYTES = 32
# First bytes of the blocks of a GIF.
_EXTENSION, _FRAME = 0x21, 0x2C


def claimed_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Height times width of an encoded image by its header, scalar int64; 0 of unknown kinds.

    Decoders unpack all frames of a GIF, a byte per pixel, whichever is wanted: a third of their
    area counts where that is more than the largest.
    """
    head = _bytes(tf.strings.substr(encoded, 0, _HEAD_BYTES))

    def begins(text: bytes, at: int = 0) -> tf.Tensor:
        return tf.reduce_all(head[at : at + len(text)] == tf.constant(list(text), tf.uint8))

    def area(*sides: tf.Tensor) -> tf.Tensor:
        return tf.abs(sides[0]) * tf.abs(sides[1])

    def webp(at: int, bits: int, places: int = 2) -> tf.Tensor:
        return _number(head, at, places) % (1 << bits)

    def of_jpeg() -> tf.Tensor:
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))

    def of_lossless_webp() -> tf.Tensor:
        sides = _number(head, 21, 4)
        return area(1 + sides % (1 << 14), 1 + sides // (1 << 14) % (1 << 14))

    kinds = [
        (begins(b"\xff\xd8\xff"), of_jpeg),
        (begins(b"\x89PNG"), lambda: area(_number(head, 16, -4), _number(head, 20, -4))),
        (begins(b"GIF8"), lambda: _pixels_of_gif(encoded)),
        # Heights are negative where the first row is the upper one.
        (begins(b"BM"), lambda: area(_signed(_number(head, 18, 4)), _signed(_number(head, 22, 4)))),
        (begins(b"VP8 ", 12), lambda: area(webp(26, 14), webp(28, 14))),
        (begins(b"VP8L", 12), of_lossless_webp),
        (begins(b"VP8X", 12), lambda: area(1 + webp(24, 24, 3), 1 + webp(27, 24, 3))),
    ]
    return tf.case(kinds, default=lambda: tf.constant(0, tf.int64), exclusive=True)


def claims_too_much(encoded: tf.Tensor) -> tf.Tensor:
    """Whether an encoded image has more than `MAX_IMAGE_PIXELS` by its header, scalar bool."""
    return claimed_pixels(encoded) > MAX_IMAGE_PIXELS


def _pixels_of_gif(encoded: tf.Tensor) -> tf.Tensor:
    data = _bytes(encoded)
    size = tf.size(data) - _HEAD_BYTES

    def table(flags: tf.Tensor) -> tf.Tensor:
        """Bytes of the colours that follow."""
        flags = tf.cast(flags, tf.int32)
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def behind_pieces(at: tf.Tensor) -> tf.Tensor:
        """Pieces have their length ahead; an empty one is the last."""
        (at,) = tf.while_loop(
            lambda at: (at < size) & (data[at] > 0),
            lambda at: (at + 1 + tf.cast(data[at], tf.int32),),
            (at,),
        )
        return at + 1

    def is_open(at: tf.Tensor, largest: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        kind = data[tf.minimum(at, size)]
        is_block = (kind == _EXTENSION) | (kind == _FRAME)
        return (at < size) & is_block & (total <= 3 * MAX_IMAGE_PIXELS)

    def past_block(at: tf.Tensor, largest: tf.Tensor, total: tf.Tensor) -> tuple:
        is_frame = data[at] == _FRAME
        area = _number(data, at + 5, 2) * _number(data, at + 7, 2)
        area = tf.where(is_frame, area, 0)
        at = behind_pieces(at + tf.where(is_frame, 11 + table(data[at + 9]), 2))
        return at, tf.maximum(largest, area), total + area

    zero = tf.constant(0, tf.int64)
    _, largest, total = tf.while_loop(is_open, past_block, (13 + table(data[10]), zero, zero))
    return tf.maximum(largest, total // 3)


def _bytes(text: tf.Tensor) -> tf.Tensor:
    """The bytes of a string, uint8, with zeros behind them to read past the end."""
    return tf.pad(tf.io.decode_raw(text, tf.uint8), [[0, _HEAD_BYTES]])


def _number(data: tf.Tensor, at: int | tf.Tensor, places: int) -> tf.Tensor:
    """The number in bytes from `at` on, the least first; `places` is negative for the other way."""
    digits = tf.cast(data[at : at + abs(places)], tf.int64)
    powers = [256**i for i in range(abs(places))]
    return tf.reduce_sum(digits * tf.constant(powers[:: 1 if places > 0 else -1], tf.int64))


def _signed(number: tf.Tensor) -> tf.Tensor:
    return tf.where(number >= 1 << 31, number - (1 << 32), number)
