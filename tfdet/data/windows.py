"""An order of training for record files that do not fit in memory: they are read in long pieces.

Pieces of all files come in random order, and images are shuffled within windows of some pieces. As
with an order of single images, the batch of a step is a function of (seed, step) alone: a run that
resumes at any step reads the pieces of its window and has the same bits.
"""

import collections
import threading

import numpy as np

from tfdet.data import storage
from tfdet.data.dataset import DetectionDataset
from tfdet.data.order import stream_positions
from tfdet.errors import UserError

_PIECES = 16  # in a window: parts of the data set from as many places are mixed


class WindowOrder:
    """Which images are in which batch, where files are read in pieces.

    Args:
        dataset: of record files.
        window_bytes: of a window.
    """

    def __init__(self, dataset: DetectionDataset, window_bytes: int):
        if dataset.spans is None:
            raise UserError(
                f"data.window_mb is for TFRecord files, but {dataset.name} has none; leave it out,"
                " or write them with tfdet-data convert"
            )
        self.dataset = dataset
        names, files = np.unique(dataset.files, return_inverse=True)
        self._num_files = len(names)
        in_file = np.lexsort((dataset.spans[:, 0], files))  # images as they lie in the files
        sorted_files, offsets = files[in_file], dataset.spans[in_file, 0]
        # Those whose image begins in the same part of their file are one piece.
        parts = offsets // max(window_bytes // _PIECES, 1)
        is_first = np.ones(len(in_file), bool)
        is_first[1:] = (np.diff(sorted_files) != 0) | (np.diff(parts) != 0)
        self.pieces = np.split(in_file, np.flatnonzero(is_first)[1:])
        self._file_of_piece = sorted_files[is_first]
        self.piece_of_image = np.empty(len(in_file), np.int64)
        self.piece_of_image[in_file] = np.cumsum(is_first) - 1
        self._known: dict[tuple, np.ndarray] = {}

    def positions(
        self, batch_size: int, seed: int, step: int, shard: tuple[int, int] = (0, 1)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and their epochs in this process's part of the batch of a global step.

        A process has files of its own, and reads no others.
        """
        index, count = shard
        if self._num_files < count:
            raise UserError(
                f"{self.dataset.name} has {self._num_files} files, fewer than the {count} workers;"
                f" write at least {count} with tfdet-data convert --num_shards"
            )
        own = np.flatnonzero(self._file_of_piece % count == index)
        size = sum(len(self.pieces[piece]) for piece in own)
        return stream_positions(
            size, batch_size // count, step, lambda epoch: self._permutation(seed, epoch, shard)
        )

    def _permutation(self, seed: int, epoch: int, shard: tuple[int, int]) -> np.ndarray:
        key = (seed, epoch, shard)
        if key not in self._known:
            index, count = shard
            chance = np.random.default_rng([seed, epoch, index])
            own = chance.permutation(np.flatnonzero(self._file_of_piece % count == index))
            windows = [own[first : first + _PIECES] for first in range(0, len(own), _PIECES)]
            images = [
                chance.permutation(np.concatenate([self.pieces[piece] for piece in window]))
                for window in windows
            ]
            self._known = dict(list(self._known.items())[-3:])
            self._known[key] = np.concatenate(images)
        return self._known[key]


class WindowReader:
    """Encoded images by position, out of pieces that are read at once; two windows are kept."""

    def __init__(self, order: WindowOrder):
        self._order = order
        self._kept: collections.OrderedDict[int, tuple[int, bytes]] = collections.OrderedDict()
        self._lock = threading.Lock()  # pieces are read one after the other, as they lie

    def encoded(self, i: int) -> bytes:
        """The encoded image at position i."""
        piece = int(self._order.piece_of_image[i])
        with self._lock:
            if piece in self._kept:
                self._kept.move_to_end(piece)
            else:
                self._kept[piece] = self._read(piece)
                if len(self._kept) > 2 * _PIECES:
                    self._kept.popitem(last=False)
            start, content = self._kept[piece]
        offset, length = (int(x) for x in self._order.dataset.spans[i])
        return content[offset - start : offset - start + length]

    def _read(self, piece: int) -> tuple[int, bytes]:
        dataset, images = self._order.dataset, self._order.pieces[piece]
        start, end = int(dataset.spans[images[0], 0]), int(dataset.spans[images].sum(axis=1).max())
        with storage.open_to_read(str(dataset.files[images[0]])) as file:
            file.seek(start)
            return start, file.read(end - start)
