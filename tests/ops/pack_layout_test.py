import numpy as np
import pytest

from tfdet.ops import pack_layout


def _sizes(height, width, num_levels=5, stride=8):
    sizes = [(-(-height // stride), -(-width // stride))]
    while len(sizes) < num_levels:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


# Worked by hand from the paper's figures; the first is the padded size of an 800x1333 image.
GOLDEN = {
    (800, 1344, 2): [
        (0, 0, 168, 100),
        (0, 100, 84, 150),
        (84, 100, 126, 125),
        (126, 100, 147, 113),
        (147, 100, 158, 107),
        (84, 125, 126, 150),
        (126, 125, 147, 138),
        (147, 125, 158, 132),
    ],
    (800, 1344, 4): [
        (0, 0, 168, 100),
        (0, 100, 84, 150),
        (126, 125, 168, 150),
        (105, 112, 126, 125),
        (94, 105, 105, 112),
        (84, 125, 126, 150),
        (147, 112, 168, 125),
        (136, 105, 147, 112),
    ],
    (512, 512, 2): [
        (0, 0, 64, 64),
        (0, 64, 32, 96),
        (32, 64, 48, 80),
        (48, 64, 56, 72),
        (56, 64, 60, 68),
        (32, 80, 48, 96),
        (48, 80, 56, 88),
        (56, 80, 60, 84),
    ],
    (512, 512, 4): [
        (0, 0, 64, 64),
        (0, 64, 32, 96),
        (48, 80, 64, 96),
        (40, 72, 48, 80),
        (36, 68, 40, 72),
        (32, 80, 48, 96),
        (56, 72, 64, 80),
        (52, 68, 56, 72),
    ],
    (256, 320, 4): [
        (0, 0, 40, 32),
        (0, 32, 20, 48),
        (30, 40, 40, 48),
        (25, 36, 30, 40),
        (22, 34, 25, 36),
        (20, 40, 30, 48),
        (35, 36, 40, 40),
        (32, 34, 35, 36),
    ],
}


@pytest.mark.parametrize(("height", "width", "pattern"), GOLDEN)
def test_boxes_are_those_of_the_paper(height, width, pattern):
    sizes, expected = _sizes(height, width), GOLDEN[height, width, pattern]
    found = pack_layout.layout(sizes, pattern)
    assert found.boxes == tuple(expected)
    assert found.levels == (0, 1, 2, 3, 4, 2, 3, 4)
    assert (found.height, found.width) == (sizes[0][0] + sizes[1][0], sizes[0][1])
    # Patterns 1 and 3 are 2 and 4 without the extra maps.
    assert pack_layout.layout(sizes, pattern - 1).boxes == tuple(expected[:5])


@pytest.mark.parametrize(
    ("height", "width", "pattern", "canvas", "gap", "fill"),
    [
        (800, 1344, 1, (150, 168), 2800, 0.8889),
        (800, 1344, 3, (150, 168), 2800, 0.8889),
        (800, 1344, 2, (150, 168), 1400, 0.9444),
        (800, 1344, 4, (150, 168), 1400, 0.9444),
        (512, 512, 1, (96, 64), 688, 0.8880),
        (512, 512, 3, (96, 64), 688, 0.8880),
        (512, 512, 2, (96, 64), 352, 0.9427),
        (512, 512, 4, (96, 64), 352, 0.9427),
        (1344, 800, 4, (252, 100), 1400, 0.9444),
        (800, 1088, 4, (150, 136), None, 0.9445),
        (608, 1024, 2, (114, 128), None, 0.9441),
        (512, 832, 2, (96, 104), None, 0.9431),
        (512, 640, 5, (96, 80), 0, 1.0),
    ],
)
def test_canvas_and_gaps_have_the_published_sizes(height, width, pattern, canvas, gap, fill):
    found = pack_layout.layout(_sizes(height, width), pattern)
    assert (found.height, found.width) == canvas
    assert round(found.fill, 4) == fill
    if gap is not None:
        assert (found.map_index() == -1).sum() == gap


def test_pattern_5_is_the_quad_tree():
    (a0, b0), (a1, b1), (a2, b2), (a3, b3), (a4, b4) = _sizes(256, 384)
    height = a0 + a1
    assert pack_layout.layout(_sizes(256, 384), 5).boxes == (
        (0, 0, b0, a0),
        (0, a0, b1, height),
        (b1, a0, b1 + b2, a0 + a2),
        (b1 + b2, a0, b0, a0 + a2),
        (b1, a0 + a2, b1 + b2, height),
        (b1 + b2, a0 + a2, b0 - b3, height - a3),
        (b0 - b3, height - a2, b0, height - a3),
        (b0 - b2, height - a3, b0 - b3, height),
        (b0 - b3, height - a3, b0 - b4, height - a4),
        (b0 - b4, height - a3, b0, height - a4),
        (b0 - b3, height - a4, b0 - b4, height),
        (b0 - b4, height - a4, b0, height),
    )


@pytest.mark.parametrize("pattern", [1, 2, 3, 4])
def test_every_multiple_of_32_from_64_to_1600_fits(pattern):
    # A Layout refuses overlaps and boxes outside when it is made.
    for height in range(64, 1601, 32):
        for width in (64, 96, 544, 800, 1344, 1600, height):
            pack_layout.layout(_sizes(height, width), pattern)


@pytest.mark.parametrize("num_levels", [3, 4, 6])
@pytest.mark.parametrize("pattern", pack_layout.PATTERNS)
def test_other_numbers_of_levels_fit(pattern, num_levels):
    found = pack_layout.layout(_sizes(512, 768, num_levels), pattern)
    assert sorted(set(found.levels)) == list(range(num_levels))


def test_the_extra_maps_of_a_level_have_its_size():
    sizes = _sizes(256, 256)
    for pattern in pack_layout.PATTERNS:
        found = pack_layout.layout(sizes, pattern)
        assert found.sizes == tuple(sizes[level] for level in found.levels)
        assert pack_layout.layout_of_maps(found.sizes, pattern) is found


def test_sizes_that_do_not_fit_are_refused_with_the_mend():
    with pytest.raises(ValueError, match=r"pattern 4.*overlap.*multiples of 32, at least 64"):
        pack_layout.layout(_sizes(32, 32), 4)
    with pytest.raises(ValueError, match=r"pattern 5.*outside the canvas.*multiples of 128"):
        pack_layout.layout(_sizes(800, 1344), 5)


@pytest.mark.parametrize("name", [4, "4", "m4", "type-4"])
def test_patterns_go_by_their_names_in_packdet(name):
    assert pack_layout.pattern_number(name) == 4


@pytest.mark.parametrize("name", [0, 6, "m6", "grid", None, True])
def test_an_unknown_pattern_is_named(name):
    with pytest.raises(ValueError, match=f"pattern 1 to 5.*{name}"):
        pack_layout.pattern_number(name)


def test_wrong_maps_are_named():
    sizes = _sizes(128, 128)
    with pytest.raises(ValueError, match="takes 8 maps for five levels, got 5 maps"):
        pack_layout.layout_of_maps(sizes, 4)
    with pytest.raises(ValueError, match="map 5 belongs to level 2.*4x4, got 5x5"):
        pack_layout.layout_of_maps([*sizes, (5, 5), *sizes[3:]], 4)
    with pytest.raises(ValueError, match="at least 3"):
        pack_layout.layout(sizes[:2], 1)


def test_overlapping_outside_and_empty_boxes_are_no_layout():
    for boxes, cause in [
        (((0, 0, 2, 2), (1, 1, 3, 3)), "overlap"),
        (((0, 0, 2, 2), (3, 0, 5, 2)), "outside"),
        (((0, 0, 2, 2), (-1, 2, 1, 3)), "outside"),
        (((0, 0, 2, 2), (2, 0, 2, 2)), "empty"),
    ]:
        with pytest.raises(ValueError, match=cause):
            pack_layout.Layout(4, 4, boxes, (0, 1))


def test_cells_know_their_level_and_place():
    found = pack_layout.layout(_sizes(256, 320), 4)
    gaps = found.map_index() == -1
    y, x = np.argwhere(gaps)[0]
    assert (y, x) == (32, 20)
    points, levels = found.locations((8, 16, 32, 64, 128)), found.level_map()
    assert (points[gaps] == -1).all() and (levels[gaps] == 0).all()
    assert points[0, 0].tolist() == [4, 4] and points[31, 39].tolist() == [316, 252]
    # The first cell of each map lies half a stride inside the image, wherever the map was put.
    for (x0, y0, _, _), level in zip(found.boxes, found.levels, strict=True):
        assert points[y0, x0].tolist() == [4 * 2**level] * 2
        assert levels[y0, x0] == level
