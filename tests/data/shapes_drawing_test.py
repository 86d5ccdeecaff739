import io

import numpy as np
from PIL import Image

from tfdet.data import shapes
from tfdet.data.shapes_drawing import draw


def picture(layout, size=128, seed=0):
    file = io.BytesIO(draw(layout, size, np.random.default_rng(seed)))
    return np.asarray(Image.open(file).convert("RGB"), np.float32)


def test_a_shape_is_painted_in_its_color_where_its_outline_is():
    layout = shapes.layout("val", 0)
    shape = layout.shapes[-1]  # nothing lies on top of the last one
    image = picture(layout, shapes.IMAGE_SIZE)
    x, y = shape.outline.mean(axis=0).astype(int)
    # Lit from above: 1.12 times the color at the top, 0.8 times at the bottom.
    ratio = image[y, x] / np.maximum(np.array(shape.colour, np.float32), 1)
    assert np.all((ratio > 0.75) & (ratio < 1.2))


def test_a_picture_depends_on_the_generator_alone():
    layout = shapes.layout("val", 3)
    np.testing.assert_array_equal(picture(layout), picture(layout))
    assert np.abs(picture(layout) - picture(layout, seed=1)).max() > 5
