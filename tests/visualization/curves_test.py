import numpy as np
from PIL import Image

from tfdet.visualization import curves


def test_curves_are_written_also_before_the_first_score(tmp_path):
    panels = {"loss": {"class_loss": ([1, 2], [3.0, 1.0])}, "AP": {}}
    curves.save(tmp_path / "curve.png", panels)
    picture = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB"))
    assert picture.shape[0] > 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
