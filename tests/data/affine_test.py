import numpy as np
import pytest
import tensorflow as tf

from tfdet.data import affine

SIZE = (30, 50)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scaled_pixels_equal_projected_ones(dtype):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(2, 60, 2)
        image = rng.integers(0, 256, (height, width, 3)).astype(dtype)
        (x, y), factors = rng.uniform(-30, 30, 2), rng.uniform(0.1, 3, 2)
        matrix = tf.constant([[factors[0], 0, x], [0, factors[1], y], [0, 0, 1]], tf.float32)
        scaled = affine.scale_pixels(tf.constant(image), matrix, SIZE, 114.0)
        projected = affine.project_pixels(tf.constant(image, tf.float32), matrix, SIZE, 114.0)
        # Where pixels come from: the outer half of the outermost ones is only in one of them.
        sources = [(np.arange(SIZE[k]) + 0.5 - (y, x)[k]) / factors[1 - k] for k in (0, 1)]
        rows, columns = (
            (source > 0.501) & (source < side - 0.501) | (source < -0.501) | (source > side + 0.501)
            for source, side in zip(sources, image.shape, strict=False)
        )
        chosen = rows[:, np.newaxis] & columns
        np.testing.assert_allclose(scaled.numpy()[chosen], projected.numpy()[chosen], atol=0.05)
        assert scaled.dtype == tf.float32 and scaled.shape == (*SIZE, 3)


def test_projection_agrees_with_the_slow_way():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 24, 3)).astype(np.float32)
    matrix = np.array([[1.1, 0.3, -4], [-0.2, 0.9, 5], [0.004, -0.003, 1]], np.float32)
    result = affine.project_pixels(tf.constant(image), tf.constant(matrix), SIZE, 7.0).numpy()
    num_inside = 0
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            x, y, depth = np.linalg.inv(matrix) @ [column + 0.5, row + 0.5, 1]
            x, y = x / depth - 0.5, y / depth - 0.5
            if x < -1 or y < -1 or x > 24 or y > 20:
                np.testing.assert_array_equal(result[row, column], 7)
            elif 0 <= x < 23 and 0 <= y < 19:
                left, top = int(x), int(y)
                across, down = x - left, y - top
                above, below = (
                    (1 - across) * image[k, left] + across * image[k, left + 1]
                    for k in (top, top + 1)
                )
                num_inside += 1
                expected = (1 - down) * above + down * below
                np.testing.assert_allclose(result[row, column], expected, atol=0.05)
    assert num_inside > 200
