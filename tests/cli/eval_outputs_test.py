"""Tests of whose files `tfdet-eval` replaces."""

import types

import numpy as np
import pytest

from tfdet.cli import app, eval_outputs
from tfdet.errors import UserError
from tfdet.visualization import draw


def _check(**given):
    values = {**dict.fromkeys(eval_outputs.FLAGS), "overwrite": False, "calibrate": False, **given}
    eval_outputs.check(types.SimpleNamespace(**values))


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        (b'{"data": "shapes:val", "images": 2, "metrics": {}}', True),
        (b'{"data": "shapes:val", "curve": []}', True),
        (b'{"images": [], "annotations": [], "categories": []}', False),
        (b"model: {name: efficientdet-d0}", False),
        (b"[1]", False),
        (b"", False),
        (b"\xff\xfe", False),
        (b"[" * 10**5, False),
    ],
)
def test_numbers_are_known_by_their_keys(tmp_path, content, is_ours):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    if is_ours:
        _check(json_out=str(path))
    else:
        with pytest.raises(UserError, match="is there, and tfdet-eval cannot tell that it wrote"):
            _check(json_out=str(path))
    _check(json_out=str(path), overwrite=True)


def test_figures_are_known_by_their_sign(tmp_path):
    path = tmp_path / "a.png"
    draw.save_picture(path, np.zeros((8, 8, 3), np.uint8))
    _check(figure_out=str(path))
    draw.save_picture(path, np.zeros((8, 8, 3), np.uint8), "another program")
    with pytest.raises(UserError, match=r"figure_out=.* is there"):
        _check(figure_out=str(path))


def test_no_detections_are_replaced_unasked(tmp_path):
    path = tmp_path / "a.json"
    _check(detections_out=str(path))
    path.write_text("[]")
    with pytest.raises(UserError, match=r"detections_out=.* is there"):
        _check(detections_out=str(path))


def test_two_flags_may_not_name_one_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(app.UsageError, match="are one file"):
        _check(json_out=str(tmp_path / "a"), detections_out=str(tmp_path / "link" / "a"))
