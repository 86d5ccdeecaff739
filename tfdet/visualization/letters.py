"""Fonts for the letters of a text, whatever script they are of.

Pillow's own font has ASCII, matplotlib's DejaVu has Latin, Cyrillic, Greek, Arabic, Hebrew and
more; for Chinese, Japanese, Korean and others the fonts that the machine has are looked through.
"""

import functools
import pathlib

from PIL import ImageFont

from tfdet.printable import printable

_MOST_LETTERS = 60


def written(
    text: str, size: float, instead: str
) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """A text as it can be drawn, and the font for it.

    Args:
        text: any, such as the name of a class.
        size: of the font, in pixels.
        instead: ASCII that is taken where no font of this machine has the letters of `text`.

    Returns:
        The text without control characters, cut to `_MOST_LETTERS`, or `instead`; its font.
    """
    text = printable(text)
    if len(text) > _MOST_LETTERS:
        text = f"{text[: _MOST_LETTERS - 3]}..."
    if not text.isascii():
        path = _font_with(frozenset(text))
        if path:
            return text, ImageFont.truetype(path, size)
        text = instead
    return text, ImageFont.load_default(size)


@functools.cache
def _font_with(letters: frozenset[str]) -> str | None:
    """File of a font that has all these letters."""
    import matplotlib
    from matplotlib import font_manager

    own = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    if _has(str(own), letters):
        return str(own)
    return next((x for x in sorted(font_manager.findSystemFonts()) if _has(x, letters)), None)


def _has(path: str, letters: frozenset[str]) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        known = FT2Font(path).get_charmap()
        ImageFont.truetype(path, 20)  # some fonts of the system are of kinds that Pillow lacks
    except (OSError, RuntimeError, ValueError):
        return False
    return all(ord(letter) in known for letter in letters)
