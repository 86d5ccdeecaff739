"""Which files of a folder are images, by their names."""

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
# Pictures that nothing here reads; whoever has them among the others should know.
OTHER_ENDINGS = (
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".tga", ".psd"),
    *(".svg", ".ico", ".dds", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"),
)


def is_image(name: str) -> bool:
    """Whether a file is an image that is read."""
    return name.lower().endswith(ENDINGS)


def is_other_picture(name: str) -> bool:
    """Whether a file is a picture in a format that is not read."""
    return name.lower().endswith(OTHER_ENDINGS)
