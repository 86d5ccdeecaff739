import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from tfdet.data import classification
from tfdet.data.augment import AugmentConfig
from tfdet.data.builder import DatasetBuilder
from tfdet.data.pipeline import batch_indices, eval_batches, train_batches
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError

SIZE = (48, 64)
PAD = (9.0, 8.0, 7.0)


@pytest.fixture(scope="module")
def shapes():
    return open_dataset("shapes:train:10")


def _take(batches, count):
    return [tf.nest.map_structure(np.asarray, b) for b in batches.take(count)]


def _assert_equal(first, second):
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_have_the_promised_form(shapes):
    batches = train_batches(shapes, SIZE, 4, pad_value=PAD, max_boxes=20)
    images, targets = batches.element_spec
    assert images.shape == (4, *SIZE, 3) and images.dtype == tf.float32
    expected = {
        "boxes": ((4, 20, 4), tf.float32),
        "labels": ((4, 20), tf.int32),
        "is_crowd": ((4, 20), tf.bool),
        "index": ((4,), tf.int64),
        "scale": ((4,), tf.float32),
        "size": ((4, 2), tf.int32),
    }
    assert {k: (v.shape, v.dtype) for k, v in targets.items()} == expected
    ((images, targets),) = _take(batches, 1)
    assert images.min() >= 0 and images.max() <= 255
    is_box = targets["labels"] >= 0
    assert np.all(targets["boxes"][~is_box] == 0)
    sides = targets["boxes"][is_box][:, 2:] - targets["boxes"][is_box][:, :2]
    assert np.all(sides > 0)
    assert np.all(targets["boxes"] <= np.array([64, 48, 64, 48]))


def test_batches_follow_the_order_function(shapes):
    batches = _take(train_batches(shapes, SIZE, 4, seed=5), 6)
    for step, (_, targets) in enumerate(batches):
        np.testing.assert_array_equal(targets["index"], batch_indices(10, 4, 5, step))


YOLO = {
    **{"geometry": "affine", "mosaic": 1.0, "mixup": 0.3, "paste_in": 0.3},
    **{"hue": 0.015, "saturation": 0.7, "value": 0.4},
}


@pytest.mark.parametrize(
    "settings", [{}, {"autoaugment": "v0", "grid_mask": 0.5, "mosaic": 0.5, "value": 0.3}, YOLO]
)
def test_start_step_equals_skipping(shapes, settings):
    config = AugmentConfig(**settings)
    whole = _take(train_batches(shapes, SIZE, 3, augment=config, seed=1), 6)
    late = _take(train_batches(shapes, SIZE, 3, augment=config, seed=1, start_step=4), 2)
    _assert_equal(whole[4:], late)


def test_seed_changes_order_and_pixels(shapes):
    first, other = (_take(train_batches(shapes, SIZE, 3, seed=s), 1) for s in (0, 1))
    assert not np.array_equal(first[0][0], other[0][0])


def test_images_change_from_epoch_to_epoch(shapes):
    one = shapes.subset(1)
    (first, _), (second, _) = _take(train_batches(one, SIZE, 1), 2)
    assert not np.array_equal(first, second)


def test_cache_changes_nothing(shapes):
    plain, cached = (_take(train_batches(shapes, SIZE, 5, cache=c), 5) for c in (False, True))
    _assert_equal(plain, cached)


def test_shards_are_the_rows_of_the_whole_batch(shapes):
    whole = _take(train_batches(shapes, SIZE, 4), 3)
    parts = [_take(train_batches(shapes, SIZE, 4, shard=(k, 2)), 3) for k in (0, 1)]
    joined = [
        tf.nest.map_structure(lambda a, b: np.concatenate([a, b]), first, second)
        for first, second in zip(*parts, strict=True)
    ]
    _assert_equal(whole, joined)


def test_batch_that_does_not_divide_among_workers_is_refused(shapes):
    with pytest.raises(UserError, match="multiple of 3"):
        train_batches(shapes, SIZE, 4, shard=(0, 3))


@pytest.mark.parametrize("make", [train_batches, eval_batches, classification.train_batches])
def test_who_drops_an_iterator_waits_for_no_thread_of_tf_data(shapes, make):
    options = make(shapes, (64, 64), 4).options()
    assert options.autotune.enabled is False


def test_data_set_smaller_than_a_batch_fills_it(shapes):
    ((_, targets),) = _take(train_batches(shapes.subset(3), SIZE, 8), 1)
    assert np.bincount(targets["index"]).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_evaluation_shows_every_image_once_in_order(shapes):
    batches = _take(eval_batches(shapes, SIZE, 4, PAD), 99)
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    index = np.concatenate([targets["index"] for _, targets in batches])
    np.testing.assert_array_equal(index, np.arange(10))


def test_evaluation_boxes_are_the_data_sets_times_scale(shapes):
    for _, targets in _take(eval_batches(shapes, SIZE, 1, PAD), 10):
        i = int(targets["index"][0])
        count = np.count_nonzero(targets["labels"][0] >= 0)
        rows = shapes.rows(i)
        np.testing.assert_array_equal(targets["labels"][0, :count], shapes.labels[rows])
        expected = shapes.boxes[rows] * targets["scale"][0]
        np.testing.assert_allclose(targets["boxes"][0, :count], expected, rtol=1e-6)
        np.testing.assert_array_equal(targets["size"][0], [256, 256])
        assert targets["scale"][0] == np.float32(48 / 256)


def test_boxes_beyond_the_maximum_are_left_out(shapes):
    counts = np.diff(shapes.box_offsets)
    assert counts.max() > 2
    for _, targets in _take(eval_batches(shapes, SIZE, 1, max_boxes=2), 10):
        i = int(targets["index"][0])
        assert np.count_nonzero(targets["labels"][0] >= 0) == min(2, counts[i])


def test_padding_has_the_colour_that_was_asked_for(shapes):
    ((images, _),) = _take(eval_batches(shapes, SIZE, 1, PAD).take(1), 1)
    np.testing.assert_array_equal(images[0, :, 48:], np.broadcast_to(PAD, (48, 16, 3)))


@pytest.fixture
def damaged(tmp_path, scenes):
    """The scenes with the end of the third image cut off."""
    dataset = open_dataset(scenes.write_coco(tmp_path))
    path = tmp_path / "images" / "c3.jpg"
    path.write_bytes(path.read_bytes()[:-150])
    return dataset


def test_damaged_image_does_not_stop_training(damaged):
    batches = _take(train_batches(damaged, SIZE, 4), 6)
    shown = np.stack([targets["index"] for _, targets in batches])
    planned = np.stack([batch_indices(4, 4, 0, step) for step in range(6)])
    np.testing.assert_array_equal(shown, np.where(planned == 2, 3, planned))
    assert damaged.problems.counts["truncated_image"] == 1
    assert damaged.problems.examples["truncated_image"] == ["c3.jpg"]


def test_damaged_image_is_replaced_alike_after_a_restart(damaged):
    whole = _take(train_batches(damaged, SIZE, 4), 4)
    _assert_equal(whole[2:], _take(train_batches(damaged, SIZE, 4, start_step=2), 2))


def test_damaged_images_do_not_stop_mosaics(damaged):
    config = AugmentConfig(geometry="affine", mosaic=1.0, mixup=0.5)
    batches = _take(train_batches(damaged, SIZE, 4, augment=config), 6)
    shown = np.stack([targets["index"] for _, targets in batches])
    planned = np.stack([batch_indices(4, 4, 0, step) for step in range(6)])
    np.testing.assert_array_equal(shown, np.where(planned == 2, 3, planned))
    assert damaged.problems.counts["truncated_image"] == 1


def test_outlines_are_asked_for_before_training_starts(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    with pytest.raises(UserError, match=r"augment\.paste_in"):
        train_batches(dataset, SIZE, 1, augment=AugmentConfig(**YOLO))


def test_damaged_image_is_left_out_of_evaluation(damaged):
    batches = _take(eval_batches(damaged, SIZE, 2), 9)
    index = np.concatenate([targets["index"] for _, targets in batches])
    np.testing.assert_array_equal(index, [0, 1, 3])


def test_image_that_vanishes_does_not_stop_training(damaged, tmp_path):
    (tmp_path / "images" / "a1.jpg").unlink()
    shown = {int(i) for _, t in _take(train_batches(damaged, SIZE, 4), 4) for i in t["index"]}
    assert shown == {1, 3}
    assert damaged.problems.counts["missing_image"] == 1


def test_set_without_any_readable_image_says_so(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(Exception, match="no readable image"):
        next(iter(train_batches(dataset, SIZE, 2)))


def test_impossible_sizes_are_refused(shapes):
    with pytest.raises(UserError, match="above 0"):
        train_batches(shapes, SIZE, 0)
    with pytest.raises(UserError, match="above 0"):
        eval_batches(shapes, (0, 64), 1)


def test_cache_that_does_not_fit_is_refused(shapes, monkeypatch):
    monkeypatch.setattr("tfdet.data.loader.MAX_CACHE_BYTES", 1000)
    with pytest.raises(UserError, match=r"data\.cache"):
        train_batches(shapes, SIZE, 1, cache=True)


def _triangles():
    """Two pictures of 60 x 80 with a white triangle each, the second one partly outside."""
    rings = [[[10, 8], [60, 20], [22, 50]], [[-20, 10], [50, 30], [30, 90]]]
    builder, files = DatasetBuilder("triangles", ("triangle",)), []
    for i, ring in enumerate(np.array(rings)):
        picture = Image.new("RGB", (80, 60))
        ImageDraw.Draw(picture).polygon([tuple(map(int, p)) for p in ring], fill=(255,) * 3)
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
        box = np.clip([*ring.min(0), *ring.max(0)], 0, [80, 60, 80, 60])
        runs = [[ring.ravel().tolist()]]
        builder.add_image(i, f"{i}.png", f"{i}", (60, 80), [box], [0], None, None, runs, (0, 0))
    return dataclasses.replace(builder.build(files.__getitem__), spans=None)


STILL = AugmentConfig(flip=0.0, jitter_min=1.0, jitter_max=1.0)
MOVING = AugmentConfig(flip=0.5, flip_vertical=0.5, jitter_min=0.5, jitter_max=2.0)


@pytest.mark.parametrize("augment", [STILL, MOVING, None], ids=["still", "moving", "evaluation"])
def test_masks_lie_where_the_object_is_painted(augment):
    triangles, size = _triangles(), (120, 160)
    if augment is None:
        batches = eval_batches(triangles, size, 2, max_boxes=3, mask_size=24)
    else:
        batches = train_batches(triangles, size, 2, augment, max_boxes=3, mask_size=24)
    seen = 0
    for images, targets in _take(batches, 1 if augment in (None, STILL) else 8):
        assert targets["masks"].shape == (2, 3, 24, 24) and targets["masks"].dtype == np.uint8
        for image, boxes, labels, masks in zip(
            images, targets["boxes"], targets["labels"], targets["masks"], strict=True
        ):
            assert not masks[labels < 0].any()
            for (left, top, right, bottom), mask in zip(boxes[labels >= 0], masks, strict=False):
                y = top + (np.arange(24) + 0.5) / 24 * (bottom - top)
                x = left + (np.arange(24) + 0.5) / 24 * (right - left)
                bright = image[np.minimum(y, 119).astype(int)][:, np.minimum(x, 159).astype(int)]
                shown = bright.mean(-1)
                # Cells that an edge goes through may be either.
                is_plain = (shown < 5) | (shown > 250)
                assert np.mean((shown > 127)[is_plain] == mask[is_plain]) > 0.97
                seen += 1
    assert seen >= 2


def test_masks_need_outlines_and_steps_that_move_them(tmp_path, scenes):
    triangles = _triangles()
    with pytest.raises(UserError, match="has no outlines"):
        train_batches(open_dataset(scenes.write_coco(tmp_path)), SIZE, 1, mask_size=8)
    for changes in ({"mosaic": 0.5}, {"autoaugment": "v0"}, {"geometry": "affine"}):
        with pytest.raises(UserError, match="does not move masks"):
            train_batches(triangles, SIZE, 1, AugmentConfig(**changes), mask_size=8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("shapes:val", (64, 64), 2), "expected a data set, .* got str"),
        ((open_dataset("shapes:val:2"), 64, 2), "image_size must be .height, width., got 64"),
        ((open_dataset("shapes:val:2"), (64, 64, 3), 2), "image_size must be .height, width."),
        ((open_dataset("shapes:val:2"), (64, 64), 2, False), "augment must be an AugmentConfig"),
    ],
)
def test_arguments_of_another_kind_are_told(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        train_batches(*arguments)
