import json

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.ops.anchors import (
    AnchorConfig,
    anchor_counts,
    anchor_levels,
    anchors,
    level_sizes,
)


def slow_anchors(config, image_size):
    """The definition, loop by loop."""
    boxes = []
    for level in range(config.min_level, config.max_level + 1):
        height, width = image_size
        for _ in range(level):
            height, width = -(-height // 2), -(-width // 2)
        stride_y, stride_x = image_size[0] / height, image_size[1] / width
        for row in range(height):
            for column in range(width):
                y, x = (row + 0.5) * stride_y, (column + 0.5) * stride_x
                for octave in range(config.num_scales):
                    for ratio in config.aspect_ratios:
                        base = config.level_scale(level) * 2 ** (octave / config.num_scales)
                        w, h = base * stride_x * ratio**0.5, base * stride_y / ratio**0.5
                        boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return np.array(boxes)


def test_published_anchors_of_512_pixels():
    boxes = anchors(AnchorConfig(), (512, 512))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(
        boxes[[0, 1, 2, 9, -1]],
        [
            [-12, -12, 20, 20],
            [-18.62742, -7.31371, 26.62742, 15.31371],
            [-7.31371, -18.62742, 15.31371, 26.62742],
            [-4, -12, 28, 20],
            [160.64972, -126.70057, 735.3503, 1022.70056],
        ],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("side", "max_level", "count"),
    [
        (512, 7, 49_104),
        (640, 7, 76_725),
        (768, 7, 110_484),
        (896, 7, 150_381),
        (1024, 7, 196_416),
        (1280, 7, 306_900),
        (1536, 7, 441_936),
        (1536, 8, 442_260),
    ],
)
def test_published_numbers_of_anchors(side, max_level, count):
    config = AnchorConfig(max_level=max_level)
    assert sum(anchor_counts(config, (side, side))) == count
    assert anchors(config, (side, side)).shape == (count, 4)


@pytest.mark.parametrize("image_size", [(64, 64), (65, 130), (33, 100)])
@pytest.mark.parametrize(
    "config",
    [
        AnchorConfig(3, 5),
        AnchorConfig(2, 4, num_scales=2, aspect_ratios=(1.0, 3.0), anchor_scale=(2.0, 3.0, 5.0)),
        AnchorConfig(3, 3, num_scales=1, aspect_ratios=(0.5,)),
    ],
)
def test_equal_to_the_definition(config, image_size):
    np.testing.assert_allclose(
        anchors(config, image_size), slow_anchors(config, image_size), rtol=1e-6, atol=1e-5
    )


def test_pairs_of_ratios_multiply_directly():
    box = anchors(AnchorConfig(3, 3, 1, ((1.4, 0.7),), 1.0), (8, 8))[0]
    np.testing.assert_allclose(box, [4 - 5.6, 4 - 2.8, 4 + 5.6, 4 + 2.8], rtol=1e-6)


def test_sizes_are_rounded_up_at_every_halving():
    assert level_sizes((130, 65), 0, 4) == ((130, 65), (65, 33), (33, 17), (17, 9), (9, 5))


def test_anchors_are_shared_and_cannot_be_written():
    first = anchors(AnchorConfig(3, 4), (32, 32))
    assert anchors(AnchorConfig(3, 4), (32, 32)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_round_trip_through_json():
    config = AnchorConfig(3, 4, aspect_ratios=(1.0, (1.4, 0.7)), anchor_scale=(4.0, 5.0))
    assert AnchorConfig(**json.loads(json.dumps(vars(config)))) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_level": 5, "max_level": 4}, "min_level=5"),
        ({"aspect_ratios": ()}, "at least one"),
        ({"num_scales": 0}, "num_scales=0"),
        ({"anchor_scale": (4.0, 4.0)}, "5 levels, got 2"),
    ],
)
def test_wrong_configs_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        AnchorConfig(**arguments)


# Anchors of stride 8 that the published RetinaNet makes, last pixels counted in.
DETECTRON_CELL = [
    [-18, -8, 25, 15],
    [-23.718, -11.119, 30.718, 18.119],
    [-30.923, -15.049, 37.923, 22.049],
    [-12, -12, 19, 19],
    [-16.159, -16.159, 23.159, 23.159],
    [-21.398, -21.398, 28.398, 28.398],
    [-8, -20, 15, 27],
    [-11.119, -26.238, 18.119, 33.238],
    [-15.049, -34.098, 22.049, 41.098],
]


def test_detectron_anchors_are_the_published_ones():
    config = AnchorConfig(aspect_ratios=(2.0, 1.0, 0.5), style="detectron")
    boxes = anchors(config, (800, 1344)) - np.array([0, 0, 1, 1])
    np.testing.assert_allclose(boxes[:9], DETECTRON_CELL, atol=5e-4)
    np.testing.assert_allclose(boxes[9:18] - boxes[:9], [[8, 0, 8, 0]] * 9, atol=1e-4)
    first = {16: [-38, -16, 53, 31], 32: [-74, -28, 105, 59], 64: [-150, -60, 213, 123]}
    first[128] = [-298, -116, 425, 243]
    counts = anchor_counts(config, (800, 1344))
    for i, expected in enumerate(first.values(), start=1):
        np.testing.assert_allclose(boxes[sum(counts[:i])], expected, atol=5e-4)


def test_maps_that_repeat_have_the_anchors_of_their_level():
    config = AnchorConfig(3, 5)
    whole = anchors(config, (64, 96))
    ends = np.cumsum(anchor_counts(config, (64, 96)))
    repeated = anchors(config, (64, 96), (3, 4, 5, 4))
    np.testing.assert_array_equal(repeated, [*whole, *whole[ends[0] : ends[1]]])
    levels = anchor_levels(config, (64, 96), (3, 4, 5, 4))
    expected = [*anchor_levels(config, (64, 96)), *[4] * (ends[1] - ends[0])]
    np.testing.assert_array_equal(levels, expected)


def test_corner_anchors_are_mmdetections():
    config = AnchorConfig(2, 6, 1, (2.0, 1.0, 0.5), 8.0, style="corner")
    boxes = anchors(config, (800, 1333))
    assert len(boxes) == 3 * (200 * 334 + 100 * 167 + 50 * 84 + 25 * 42 + 13 * 21)
    root = 2**0.5
    np.testing.assert_allclose(boxes[0], [-16 * root, -8 * root, 16 * root, 8 * root], rtol=1e-6)
    np.testing.assert_allclose(boxes[4], [4 - 16, -16, 4 + 16, 16])
    last = [20 * 64 - 128 * root, 12 * 64 - 256 * root, 20 * 64 + 128 * root, 12 * 64 + 256 * root]
    np.testing.assert_allclose(boxes[-1], last, rtol=1e-5)


def test_torchvisions_anchors_are_whole_pixels_at_the_corners():
    config = AnchorConfig(3, 7, 3, (2.0, 1.0, 0.5), 4.0, style="torchvision")
    boxes = anchors(config, (320, 416))
    # Sizes 32, 40 and 50 of the finest level; half of 45.25 is 23, half of 22.63 is 11.
    cell = [
        (23, 11),
        (28, 14),
        (35, 18),
        (16, 16),
        (20, 20),
        (25, 25),
        (11, 23),
        (14, 28),
        (18, 35),
    ]
    np.testing.assert_array_equal(boxes[:9], [[-w, -h, w, h] for w, h in cell])
    np.testing.assert_array_equal(boxes[9:18] - boxes[:9], [[8, 0, 8, 0]] * 9)
    # 13 cells of 32 pixels, and 7 of 59.4 pixels, which count as 59.
    counts = np.cumsum(anchor_counts(config, (320, 416)))
    widths = [boxes[n + 9, 0] - boxes[n, 0] for n in counts[:-1]]
    assert widths == [16, 32, 59, 104]
    # The half of 101, the second octave of 64 in whole pixels, is rounded to 50.
    square = boxes[counts[0] + 3 : counts[0] + 6]
    np.testing.assert_array_equal(square[:, 2], [32, 40, 50])


def test_torchvisions_two_stage_anchors():
    config = AnchorConfig(2, 6, 1, (2.0, 1.0, 0.5), 8.0, style="torchvision")
    boxes = anchors(config, (320, 416))
    np.testing.assert_array_equal(
        boxes[:3], [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )
