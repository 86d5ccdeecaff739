import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.ops.letterbox import fitted_size, letterbox

PAD = (10.0, 20.0, 30.0)
sides = st.integers(1, 3000)


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides, canvas_height=sides, canvas_width=sides)
def test_fitted_image_fills_one_side_and_keeps_its_shape(
    height, width, canvas_height, canvas_width
):
    size, scale = fitted_size([height, width], [canvas_height, canvas_width])
    size = size.numpy()
    assert size[0] == canvas_height or size[1] == canvas_width
    assert size[0] <= canvas_height and size[1] <= canvas_width
    exact = min(canvas_height / height, canvas_width / width)
    np.testing.assert_allclose(scale, exact, rtol=1e-6)
    # Cut down to whole pixels, but never to nothing.
    assert np.all(np.abs(size - np.maximum(np.array([height, width]) * exact, 1)) < 1.001)


def test_image_lies_in_the_corner_and_the_rest_has_the_colour():
    image = np.full((20, 40, 3), 200, np.uint8)
    canvas, scale = letterbox(image, (64, 80), PAD)
    assert canvas.shape == (64, 80, 3) and canvas.dtype == tf.float32
    assert scale == 2.0
    np.testing.assert_array_equal(canvas[:40], np.full((40, 80, 3), 200))
    np.testing.assert_array_equal(canvas[40:], np.broadcast_to(PAD, (24, 80, 3)))


def test_batch_equals_single_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 31, 17, 3), np.uint8)
    batch, scale = letterbox(images, (40, 50), PAD)
    for k in range(3):
        single, single_scale = letterbox(images[k], (40, 50), PAD)
        np.testing.assert_array_equal(batch[k], single)
        assert scale == single_scale


def test_empty_batch_gives_an_empty_batch():
    canvas, _ = letterbox(np.zeros((0, 31, 17, 3), np.uint8), (40, 50), PAD)
    assert canvas.shape == (0, 40, 50, 3)


def test_sizes_that_are_unknown_until_run_time_give_the_same():
    traced = tf.function(
        lambda x: letterbox(x, (40, 50), PAD),
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)],
    )
    for shape in [(2, 31, 17, 3), (1, 90, 200, 3), (0, 5, 5, 3)]:
        images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        canvas, scale = traced(images)
        expected, expected_scale = letterbox(images, (40, 50), PAD)
        np.testing.assert_array_equal(canvas, expected)
        np.testing.assert_array_equal(scale, expected_scale)
    assert traced.get_concrete_function().structured_outputs[0].shape[1:] == (40, 50, 3)


def test_image_of_the_canvas_size_is_unchanged():
    image = np.random.default_rng(2).integers(0, 256, (32, 48, 3), np.uint8)
    canvas, scale = letterbox(image, (32, 48), PAD)
    np.testing.assert_array_equal(canvas, image)
    assert scale == 1.0


def test_painted_rectangles_stay_in_their_boxes():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(40, 120, 2)
        x0, y0 = rng.integers(0, 20, 2)
        x1, y1 = x0 + rng.integers(10, 20), y0 + rng.integers(10, 20)
        image = np.zeros((height, width, 3), np.uint8)
        image[y0:y1, x0:x1] = 255
        canvas, scale = letterbox(image, (96, 80), (0.0, 0.0, 0.0))
        rows, columns = np.nonzero(canvas.numpy()[..., 0] > 127)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # Half a pixel of the threshold, and up to one by which the new size was cut down.
        np.testing.assert_allclose(seen, np.array([x0, y0, x1, y1]) * scale.numpy(), atol=1.5)
