"""An export of any form as a driver."""

import pathlib

from tfdet.serving import description
from tfdet.serving.driver import Driver, SavedModelDriver
from tfdet.serving.piece_driver import PieceDriver


def open_exported(path: str | pathlib.Path) -> Driver:
    """What runs the export in the folder `path`, whatever form `tfdet.export` wrote it in.

    Example:
        driver = open_exported("served/onnx")
        detections = driver.detect(images)

    Args:
        path: the folder, or a file in it.
    """
    folder = pathlib.Path(path)
    if folder.is_file() and (folder.parent / description.FILE).is_file():
        folder = folder.parent
    if (folder / description.FILE).is_file():
        return PieceDriver(folder)
    return SavedModelDriver(path)
