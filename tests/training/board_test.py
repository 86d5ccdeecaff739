"""What TensorBoard gets to see, where it is installed."""

import glob

import numpy as np
import pytest

from tfdet.training import board


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: None)
    silent = board.Board(tmp_path)
    silent.scalars(1, {"loss": 2.0})
    silent.image(1, "routes", np.zeros((4, 5, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_numbers_and_pictures_are_there(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_file_loader

    loud = board.Board(tmp_path)
    loud.scalars(3, {"loss": 2.0})
    loud.image(3, "routes", np.zeros((4, 5, 3), np.uint8))
    (path,) = glob.glob(f"{tmp_path}/*")
    events = event_file_loader.EventFileLoader(path).Load()
    values = {v.tag: event.step for event in events for v in event.summary.value}
    assert values == {"loss": 3, "routes": 3}
