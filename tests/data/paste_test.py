import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.example import Example
from tfdet.data.loader import ImageLoader
from tfdet.data.outlines import Outlines
from tfdet.data.paste import CutOuts, paste_in
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError

SIZE = (120, 160)


@pytest.fixture(scope="module")
def shapes():
    return open_dataset("shapes:train:12")


@pytest.fixture(scope="module")
def white(tmp_path_factory, scenes):
    """Objects that fill their boxes with white, on white images."""
    root = tmp_path_factory.mktemp("white")
    dataset = open_dataset(scenes.write_coco(root))
    for name, size in zip(dataset.names, dataset.sizes, strict=True):
        tf.io.write_file(
            str(root / "images" / name), tf.io.encode_png(np.full((*size, 3), 255, np.uint8))
        )
    rings = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in dataset.boxes.tolist()]
    return dataclasses.replace(dataset, outlines=Outlines.from_segmentations(rings))


def _ground(boxes=(), labels=()):
    count = len(boxes)
    return Example(
        *(tf.zeros([*SIZE, 3]), tf.constant(np.reshape(boxes, (-1, 4)), tf.float32)),
        *(tf.constant(np.array(labels, np.int32)), tf.fill([count], False)),
        *(tf.zeros([0, 4]), tf.zeros([0], tf.int32)),
        *(tf.constant(0, tf.int64), tf.constant(SIZE)),
    )


def _overlap(a, b):
    return np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))


def test_pasted_objects_fill_their_boxes(white):
    cut_outs = CutOuts(ImageLoader(white, keep_decoded=True))
    run = tf.function(lambda seed: paste_in(_ground(), cut_outs, seed)[:4], autograph=False)
    counts = []
    for seed in range(200):
        image, boxes, labels, is_crowd = (x.numpy() for x in run(tf.constant([seed, 3])))
        assert len(boxes) == len(labels) == len(is_crowd) and not is_crowd.any()
        counts.append(len(boxes))
        union = np.zeros(SIZE, bool)
        for x0, y0, x1, y1 in boxes.astype(int):
            assert x1 - x0 > 10 and y1 - y0 > 10
            union[y0:y1, x0:x1] = True
        # Outlines lie between pixels: the last row or column of a cut-out may be half a one.
        painted = image[..., 0] > 127
        assert not np.any(painted & ~union)
        assert np.count_nonzero(union & ~painted) <= 0.12 * np.count_nonzero(union)
        for k, box in enumerate(boxes):  # nothing that is there is covered by 30 percent
            for later in boxes[k + 1 :]:
                assert _overlap(box, later) < 0.3 * np.prod(box[2:] - box[:2])
    assert 2 < np.mean(counts) < 12


def test_what_is_there_keeps_its_rows_and_is_not_covered(shapes):
    cut_outs = CutOuts(ImageLoader(shapes, keep_decoded=True))
    there = [[0, 0, 160, 60], [10, 70, 40, 100]]
    run = tf.function(
        lambda seed: paste_in(_ground(there, [7, 8]), cut_outs, seed)[:4], autograph=False
    )
    num_new = 0
    for seed in range(50):
        _, boxes, labels, _ = run(tf.constant([seed, 1]))
        np.testing.assert_array_equal(boxes[:2], there)
        assert labels[:2].numpy().tolist() == [7, 8] and np.all(labels[2:] < 5)
        for box in boxes.numpy()[2:]:
            num_new += 1
            for old in np.array(there):
                assert _overlap(old, box) < 0.3 * np.prod(old[2:] - old[:2])
    assert num_new > 50


def test_no_room_leaves_all_as_it_is(shapes):
    cut_outs = CutOuts(ImageLoader(shapes))
    crowded = [[x, y, x + 9, y + 9] for x in range(0, 160, 10) for y in range(0, 120, 10)]
    ground = _ground(crowded, len(crowded) * [0])
    pasted = paste_in(ground, cut_outs, tf.constant([1, 1]))
    np.testing.assert_array_equal(pasted.image, ground.image)
    np.testing.assert_array_equal(pasted.boxes, ground.boxes)


def test_cut_outs_are_the_objects_without_their_ground(shapes):
    """Each is opaque where its outline encloses it: the area of the polygon."""
    cut_outs = CutOuts(ImageLoader(shapes))
    assert len(cut_outs) == len(shapes.boxes)
    for k in range(len(cut_outs)):
        pixels, label = cut_outs.load(tf.constant(k, tf.int64))
        (ring,) = shapes.outlines.rings(k)
        x, y = ring.T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        perimeter = np.linalg.norm(ring - np.roll(ring, -1, axis=0), axis=1).sum()
        is_object = pixels.numpy()[..., 3] == 255
        assert abs(np.count_nonzero(is_object) - area) <= 0.6 * perimeter
        assert label == shapes.labels[k]
        sides = np.ptp(ring, axis=0)[::-1]
        assert np.all(np.abs(np.array(is_object.shape) - sides) <= 2)


def test_crowds_and_objects_without_outline_are_not_cut_out(white):
    is_crowd = np.zeros(len(white.boxes), bool)
    is_crowd[0] = True
    rings = [[[0, 0, 5, 0, 5, 5]]] * (len(is_crowd) - 1) + [None]
    dataset = dataclasses.replace(
        white, is_crowd=is_crowd, outlines=Outlines.from_segmentations(rings)
    )
    assert len(CutOuts(ImageLoader(dataset))) == len(is_crowd) - 2


def test_damaged_images_give_nothing(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    rings = [[[x0, y0, x1, y0, x1, y1]] for x0, y0, x1, y1 in dataset.boxes.tolist()]
    dataset = dataclasses.replace(dataset, outlines=Outlines.from_segmentations(rings))
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"nothing")
    cut_outs = CutOuts(ImageLoader(dataset))
    pixels, _ = cut_outs.load(tf.constant(0, tf.int64))
    np.testing.assert_array_equal(pixels, np.zeros((1, 1, 4)))
    pasted = paste_in(_ground(), cut_outs, tf.constant([1, 1]))
    assert len(pasted.boxes) == 0 and not np.any(pasted.image)


def test_data_set_without_outlines_is_refused(shapes):
    with pytest.raises(UserError, match=r"set augment\.paste_in to 0"):
        CutOuts(ImageLoader(dataclasses.replace(shapes, outlines=None)))
