"""Tests of the pictures."""

import numpy as np
import pytest
from PIL import Image

from tfdet.visualization import draw

NAMES = ["disc", "square", "star"]


def _contrast(picture, background, box):
    left, top, right, _ = box
    strip = picture[top - 4 : top + 5, (left + right) // 2].astype(int)
    return np.abs(strip - background).max()


@pytest.mark.parametrize("background", [0, 90, 128, 255])
def test_frame_stands_out_on_any_background(background):
    image = np.full((200, 200, 3), background, np.uint8)
    box = [40, 60, 150, 150]
    for label in range(30):
        picture = draw.draw_boxes(image, np.array([box]), np.array([label]), [""] * 30)
        assert _contrast(picture, background, box) > 100


def test_image_is_left_alone_and_padding_is_not_drawn():
    image = np.full((50, 60, 3), 7.0, np.float32)
    before = image.copy()
    boxes = np.array([[5, 5, 20, 20], [0, 0, 0, 0]], np.float32)
    picture = draw.draw_boxes(image, boxes, np.array([-1, -1]), NAMES)
    assert picture.dtype == np.uint8
    assert (picture == 7).all()
    assert (draw.draw_boxes(image, boxes, np.array([0, -1]), NAMES) != 7).any()
    assert (image == before).all()


@pytest.mark.parametrize("box", [[-5, -5, 300, 300], [59, 49, 60, 50], [30, 30, 20, 20]])
def test_boxes_at_and_beyond_the_border_can_be_drawn(box):
    image = np.zeros((50, 60, 3), np.uint8)
    picture = draw.draw_boxes(image, np.array([box]), np.array([2]), NAMES, np.array([0.5]))
    assert picture.shape == image.shape
    assert picture.any()


def test_captions_of_equal_boxes_do_not_hide_each_other():
    image = np.zeros((200, 200, 3), np.uint8)
    boxes = np.tile(np.array([[60.0, 60, 140, 140]]), (3, 1))
    picture = draw.draw_boxes(image, boxes, np.arange(3), NAMES, np.array([0.9, 0.8, 0.7]))
    for label in range(3):
        fill = (picture == draw.class_color(label)).all(-1)
        assert fill.sum() > 200, NAMES[label]


def test_neighbouring_classes_have_distinct_colors():
    colors = np.array([draw.class_color(i) for i in range(90)], int)
    assert len(np.unique(colors, axis=0)) == 90
    assert np.abs(np.diff(colors, axis=0)).sum(1).min() > 100


def test_comparison_draws_only_sure_detections():
    images = np.zeros((2, 64, 64, 3), np.float32)
    truth = {"boxes": np.zeros((2, 1, 4)), "labels": np.full((2, 1), -1)}
    found = {
        "boxes": np.tile(np.array([[10.0, 10, 40, 40]]), (2, 1, 1)),
        "scores": np.array([[0.2], [0.9]]),
        "labels": np.zeros((2, 1), int),
        "count": np.array([1, 1]),
    }
    sure = draw.comparison(images, truth, found, NAMES, threshold=0.5, columns=1)
    height, width = sure.shape[0] // 2, sure.shape[1] // 2
    color = (sure == draw.class_color(0)).all(-1)
    assert color[height:, width:].any()  # second image, right panel
    assert not color[:height].any()
    assert not color[:, :width].any()


def test_grid_holds_pictures_of_different_sizes():
    pictures = [np.full((h, w, 3), 10 * i, np.uint8) for i, (h, w) in enumerate([(5, 9), (7, 3)])]
    sheet = draw.grid([*pictures, pictures[0]], columns=2)
    assert (sheet == 0).all(-1).sum() == 2 * 45
    assert (sheet == 10).all(-1).sum() == 21


def test_saved_picture_reads_back_and_leaves_no_other_file(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(np.uint8)
    draw.save_picture(str(tmp_path / "a.png"), picture)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == picture).all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_masks_tint_their_pixels_alone():
    image = np.full((40, 50, 3), 100, np.uint8)
    masks = np.zeros((2, 4, 4))
    masks[0, :, :2] = 1
    boxes = np.float32([[10, 8, 26, 24], [0, 0, 9, 9]])
    drawn = draw.draw_masks(image, boxes, np.array([1, -1]), masks)
    changed = (drawn != image).any(-1)
    assert changed[12:20, 12:17].all()
    changed[8:24, 10:18] = False
    assert not changed.any()


def test_a_light_line_runs_inside_the_edge_of_a_mask():
    image = np.full((40, 50, 3), 100, np.uint8)
    boxes = np.float32([[10, 8, 26, 24], [40, 30, 60, 50]])  # the second leaves the picture
    drawn = draw.draw_masks(image, boxes, np.array([0, 0]), np.ones((2, 4, 4)))
    is_light, is_object = (drawn == 255).all(-1), (drawn != image).any(-1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(is_object, 1), (3, 3))
    np.testing.assert_array_equal(is_light, is_object & ~around.all((2, 3)))
    assert is_object[9:23, 11:25].all()
    assert is_object[32:40, 42:50].all()
