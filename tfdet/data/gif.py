"""What unpacking a GIF costs: decoders unpack all of its frames, whichever is wanted."""

_EXTENSION, _FRAME = 0x21, 0x2C  # first bytes of blocks


def frame_pixels(data: bytes) -> int:
    """Area of all frames of a GIF together, by their headers; of a damaged one up to the damage."""
    total, at = 0, 13
    try:
        at += _table(data[10])
        while data[at] in (_EXTENSION, _FRAME):
            if data[at] == _FRAME:
                width, height = (
                    int.from_bytes(data[at + i : at + i + 2], "little") for i in (5, 7)
                )
                total += width * height
                at += 11 + _table(data[at + 9])
            else:
                at += 2
            while data[at]:  # pieces have their length ahead; an empty one is the last
                at += 1 + data[at]
            at += 1
    except IndexError:
        pass
    return total


def _table(flags: int) -> int:
    """Bytes of the colours that follow."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0
