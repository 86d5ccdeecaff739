import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tfdet.data.shapes import CLASS_NAMES, IMAGE_SIZE, layout, open_shapes
from tfdet.data.shapes_export import write_shapes
from tfdet.data.sources import open_dataset


@pytest.fixture(scope="module")
def shapes():
    return open_shapes("train", 300)


def test_sizes_of_the_splits():
    assert len(open_shapes("val")) == 200
    assert len(open_shapes("train", 7)) == 7


def test_difficulties_travel_with_their_images(shapes):
    grades = [layout("train", i).difficulty for i in (8, 3)]
    np.testing.assert_array_equal(shapes.select([8, 3]).difficulty, grades)


def test_same_pictures_every_time(shapes):
    again = open_shapes("train", 300)
    np.testing.assert_array_equal(shapes.boxes, again.boxes)
    for i in (0, 17, 299):
        assert shapes.encoded(i) == again.encoded(i)


def test_splits_differ():
    train, val = open_shapes("train", 20), open_shapes("val", 20)
    assert not {train.encoded(i) for i in range(20)} & {val.encoded(i) for i in range(20)}


def test_every_class_and_four_octaves_of_size_occur(shapes):
    assert np.bincount(shapes.labels, minlength=5).min() > 0.15 * len(shapes.boxes)
    sides = np.sqrt((shapes.boxes[:, 2:] - shapes.boxes[:, :2]).prod(axis=1))
    shares = np.histogram(sides, [8, 16, 32, 64, 128, 256])[0] / len(sides)
    assert np.all(shares > 0.004), shares
    assert shares[2:4].sum() > 0.6  # most can be seen well at half the size


def test_difficulty_is_graded(shapes):
    difficulty = np.array([layout("train", i).difficulty for i in range(300)])
    counts = np.diff(shapes.box_offsets)
    sides = np.sqrt((shapes.boxes[:, 2:] - shapes.boxes[:, :2]).prod(axis=1))
    mean_side = np.array([sides[shapes.rows(i)].mean() for i in range(300)])
    easy, hard = difficulty < 0.2, difficulty > 0.7
    assert easy.mean() > 0.3 and hard.mean() > 0.1
    assert counts[easy].mean() < 3 and counts[hard].mean() > 5
    assert mean_side[easy].mean() > 2 * mean_side[hard].mean()


def test_outlines_fit_their_boxes_and_are_painted(shapes):
    for i in range(40):
        pixels = np.asarray(Image.open(io.BytesIO(shapes.encoded(i)))).astype(int)
        assert pixels.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        row = shapes.rows(i).stop - 1  # the nearest shape: nothing covers it
        (ring,) = shapes.outlines.rings(row)
        extent = np.concatenate([ring.min(axis=0), ring.max(axis=0)])
        np.testing.assert_allclose(extent, shapes.boxes[row], atol=0.01)
        mask = Image.new("1", (IMAGE_SIZE, IMAGE_SIZE))
        ImageDraw.Draw(mask).polygon([tuple(p) for p in ring], fill=1)
        inside = pixels[np.asarray(mask)]
        colour = np.array(layout("train", i).shapes[-1].colour)
        # The body is the colour times 0.8 to 1.12; the rim takes some of a small shape.
        is_body = (np.abs(inside - colour) <= 0.22 * colour + 3).all(axis=1)
        assert is_body.mean() > 0.5


def test_written_files_are_the_same_set(tmp_path):
    counts = {"train": 3, "val": 4}
    specs = write_shapes(str(tmp_path), counts)
    for spec, split in zip(specs, ("train", "val"), strict=True):
        written, built_in = open_dataset(spec), open_shapes(split, counts[split])
        assert written.class_names == CLASS_NAMES and written.class_ids == built_in.class_ids
        np.testing.assert_array_equal(written.boxes, built_in.boxes)
        np.testing.assert_array_equal(written.labels, built_in.labels)
        np.testing.assert_array_equal(written.image_ids, built_in.image_ids)
        np.testing.assert_allclose(written.difficulty, built_in.difficulty, atol=1e-4)
        np.testing.assert_allclose(written.outlines.points, built_in.outlines.points, atol=0.01)
        for i in range(counts[split]):
            assert written.encoded(i) == built_in.encoded(i)
    content = json.loads((tmp_path / "annotations" / "instances_val.json").read_text())
    assert all(0 <= image["difficulty"] < 1 for image in content["images"])
    assert not list(tmp_path.rglob("*.tmp"))
