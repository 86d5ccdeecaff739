import numpy as np
import tensorflow as tf

from tfdet.data.mosaic import mosaic

SIZE = (60, 90)


def test_rectangles_stay_in_their_boxes(painted):
    run = tf.function(
        lambda images, boxes, seed: mosaic(images, boxes, SIZE, seed), autograph=False
    )
    sizes = [(40, 40), (50, 30), (64, 80), (33, 47)]
    for seed in range(200):
        shown = seed % 4  # only one of the four holds a rectangle
        boxes = [painted.random_rectangle(seed, size) for size in sizes]
        images = [
            painted.paint(size, box) if k == shown else np.zeros((*size, 3), np.uint8)
            for k, (size, box) in enumerate(zip(sizes, boxes, strict=True))
        ]
        image, moved = run(
            [tf.constant(x) for x in images],
            [tf.constant([box], tf.float32) for box in boxes],
            tf.constant([seed, 0]),
        )
        assert image.shape == (*SIZE, 3) and moved.shape == (4, 4)
        extent = painted.extent(image, threshold=127)
        np.testing.assert_allclose(extent, moved[shown], atol=1.0)


def test_images_fill_the_canvas_from_the_top_left():
    images = [tf.fill([8, 8, 3], tf.constant(value, tf.uint8)) for value in (10, 20, 30, 40)]
    for k in range(20):
        image, boxes = mosaic(images, [tf.zeros([0, 4])] * 4, SIZE, tf.constant([k, 0]))
        corners = image.numpy()[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        np.testing.assert_array_equal(corners, [10, 20, 30, 40])
        assert 15 <= np.count_nonzero(image[:, 0, 0] == 10) <= 45
        assert boxes.shape == (0, 4)
