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


def _fill(picture, label):
    return (picture == draw.class_color(label)).all(-1).sum()


def test_in_a_crowd_each_class_has_its_name_however_unsure():
    boxes = np.tile(np.array([[200.0, 200, 280, 280]]), (80, 1))
    labels = np.where(np.arange(80) < 79, 0, 1)
    image = np.zeros((480, 480, 3), np.uint8)
    drawn = draw.draw_boxes(image, boxes, labels, NAMES, np.linspace(1, 0.1, 80))
    assert _fill(drawn, 1) > 200
    assert _fill(drawn, 0) < 30 * _fill(drawn, 1)  # and not 79 times: many have no caption


def test_captions_are_smaller_among_many_boxes_and_larger_in_large_pictures():
    corner = np.stack(np.meshgrid(*[np.arange(5) * 100.0 + 40] * 2), -1).reshape(25, 2)
    boxes = np.concatenate([corner, corner + 1], axis=1)
    image = np.zeros((560, 560, 3), np.uint8)
    many = draw.draw_boxes(image, boxes, np.zeros(25, int), NAMES)
    one = draw.draw_boxes(image, boxes[:1], np.zeros(1, int), NAMES)
    assert _fill(many, 0) / 25 < 0.6 * _fill(one, 0)
    large = image.repeat(3, axis=0).repeat(3, axis=1)
    larger = draw.draw_boxes(large, 3 * boxes[:1], np.zeros(1, int), NAMES)
    assert 6 < _fill(larger, 0) / _fill(one, 0) < 12


def test_notes_stand_behind_names():
    image, box = np.zeros((200, 300, 3), np.uint8), np.array([[60.0, 80, 140, 140]])
    plain = draw.draw_boxes(image, box, np.array([0]), NAMES)
    noted = draw.draw_boxes(image, box, np.array([0]), NAMES, notes=["not found"])
    fill = [(x[:78] == draw.class_color(0)).all(-1).sum() for x in (plain, noted)]
    assert fill[1] > 1.8 * fill[0]
    empty = draw.draw_boxes(image, box, np.array([0]), NAMES, notes=[""])
    np.testing.assert_array_equal(empty, plain)


def test_dashes_leave_gaps_in_the_frame():
    image, box = np.zeros((200, 300, 3), np.uint8), np.array([[60.0, 80, 140, 140]])
    whole, dashed = (
        draw.draw_boxes(image, box, np.array([0]), NAMES, dashed=np.array([is_dashed]))
        for is_dashed in (False, True)
    )
    side = slice(85, 135), slice(60, 62)
    lines = [(x[side] == draw.class_color(0)).all(-1) for x in (whole, dashed)]
    assert lines[0].all()
    assert 0.3 < lines[1].mean() < 0.7


def test_a_tint_of_other_pixels_leaves_them_alone():
    picture = np.full((20, 30, 3), 90, np.uint8)
    pixels = np.zeros((20, 30), bool)
    np.testing.assert_array_equal(draw.tint(picture, pixels, 2), picture)
    pixels[5:15, 5:15] = True
    tinted = draw.tint(picture, pixels, 2)
    assert ((tinted != 90).any(-1) == pixels).all()
    assert (picture == 90).all()


@pytest.mark.parametrize(
    ("size", "zoom"), [((96, 128), 4), ((256, 256), 1), ((1, 5000), 1), ((9, 400), 3)]
)
def test_small_images_are_enlarged_for_their_captions(size, zoom):
    image = np.arange(3, dtype=np.uint8) + np.zeros((*size, 1), np.uint8)
    larger, times = draw.enlarged(image)
    assert times == zoom
    assert larger.shape == (zoom * size[0], zoom * size[1], 3)
    assert (larger == [0, 1, 2]).all()


def test_captions_of_a_panorama_are_as_large_as_those_of_a_square():
    areas = []
    for size in ((300, 3000), (949, 949)):
        image = np.zeros((*size, 3), np.uint8)
        box = np.array([[100.0, 100, 200, 200]])
        areas.append(_fill(draw.draw_boxes(image, box, np.array([0]), NAMES), 0))
    assert areas[0] == areas[1]
