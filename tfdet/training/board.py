"""What TensorBoard shows of a run, where TensorBoard is installed; nothing is written elsewhere."""

import importlib.util
import pathlib
from collections.abc import Mapping

import numpy as np


class Board:
    """Writes numbers and pictures of epochs.

    Args:
        folder: where TensorBoard looks for them.
    """

    def __init__(self, folder: pathlib.Path):
        self._writer = None
        if importlib.util.find_spec("tensorboard") is not None:
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of an epoch."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def image(self, epoch: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, 3], of an epoch."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._writer.as_default(step=epoch):
            tf.summary.image(name, picture[None])
        self._writer.flush()
