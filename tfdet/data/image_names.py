"""Which files of a folder are images, by their names."""

import os

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
# Pictures that nothing here reads; whoever has them among the others should know.
OTHER_ENDINGS = (
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".tga", ".psd"),
    *(".svg", ".ico", ".dds", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"),
)
# macOS keeps what other file systems have no place for in files of this name: ._x.jpg of x.jpg.
_APPLE_DOUBLE = "._"


def is_image(name: str) -> bool:
    """Whether a file is an image that is read."""
    return _ends(name, ENDINGS)


def is_other_picture(name: str) -> bool:
    """Whether a file is a picture in a format that is not read."""
    return _ends(name, OTHER_ENDINGS)


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings) and not os.path.basename(name).startswith(_APPLE_DOUBLE)
