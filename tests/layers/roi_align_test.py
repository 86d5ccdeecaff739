import keras
import numpy as np

from tfdet.layers.roi_align import RoIAlign


def ramps(size=64):
    """Maps whose two channels are the x and y of a cell's middle in pixels of the image."""
    maps = {}
    for level in (2, 3, 4):
        cells = (np.arange(size >> level, dtype=np.float32) + 0.5) * 2**level
        maps[f"P{level}"] = np.stack(np.meshgrid(cells, cells), -1)[None]
    return maps


def test_bins_read_the_image_at_their_middle():
    boxes = np.float32([[[16, 20, 44, 48], [8, 8, 56, 32]]])
    found = np.asarray(RoIAlign(4, 2, finest_side=14.0)(ramps(), boxes))
    middles = (np.arange(4) + 0.5) / 4
    for box, bins in zip(boxes[0], found[0], strict=True):
        x, y = (box[i] + middles * (box[i + 2] - box[i]) for i in range(2))
        np.testing.assert_allclose(bins, np.stack(np.meshgrid(x, y), -1), atol=1e-3)


def test_large_boxes_read_coarse_levels():
    maps = {
        f"P{level}": np.full((1, 64 >> level, 64 >> level, 1), level, np.float32)
        for level in (2, 3, 4)
    }
    boxes = np.float32([[[0, 0, 12, 12], [0, 0, 30, 30], [0, 0, 60, 60]]])
    found = np.asarray(RoIAlign(2, 2, finest_side=14.0)(maps, boxes))
    np.testing.assert_allclose(found[0, :, 0, 0, 0], [2, 3, 4])


def test_shapes_are_known_before_it_runs():
    maps = {"P2": keras.KerasTensor((None, 16, 16, 8)), "P3": keras.KerasTensor((None, 8, 8, 8))}
    assert RoIAlign(7)(maps, keras.KerasTensor((None, 9, 4))).shape == (None, 9, 7, 7, 8)


def test_the_form_that_is_not_aligned_reads_half_a_cell_further():
    boxes = np.float32([[[16, 20, 44, 48]]])
    aligned = np.asarray(RoIAlign(4, 2, finest_side=56.0)(ramps(), boxes))
    layer = RoIAlign(4, 2, finest_side=56.0, aligned=False)
    np.testing.assert_allclose(layer(ramps(), boxes), aligned + 2.0, atol=1e-3)  # cells of 4 pixels
    assert RoIAlign.from_config(layer.get_config()).aligned is False
