import gzip
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.sources import open_dataset
from tfdet.data.tfrecord import open_tfrecord, read_labels, shard_prefix
from tfdet.errors import UserError


def _png(height=20, width=30) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


def _record(**changes) -> bytes:
    """A record as other projects write it, with one box of class 2."""
    features = {
        "encoded": [_png()],
        "source_id": [b"17"],
        "filename": [b"x.png"],
        "height": [20],
        "width": [30],
        "object/bbox/xmin": [0.1],
        "object/bbox/ymin": [0.2],
        "object/bbox/xmax": [0.5],
        "object/bbox/ymax": [0.9],
        "object/class/label": [2],
        "object/class/text": [b"bee"],
    } | changes
    feature = {}
    for key, values in features.items():
        if values and isinstance(values[0], bytes):
            field = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif "bbox" in key or key.endswith("area"):
            field = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            field = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        feature["image/" + key] = field
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _write(path, *records) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def test_record_of_another_project_is_read(tmp_path):
    dataset = open_tfrecord(_write(tmp_path / "a.tfrecord", _record()))
    assert dataset.class_names == ("bee",) and dataset.class_ids == (2,)
    np.testing.assert_array_equal(dataset.boxes, [[3, 4, 15, 18]])
    np.testing.assert_array_equal(dataset.sizes, [[20, 30]])
    assert dataset.image_ids.tolist() == [17]
    assert dataset.encoded(0) == _png()
    np.testing.assert_array_equal(dataset.areas, [12 * 14])
    assert not dataset.is_crowd.any()


def test_crowds_and_areas_are_read(tmp_path):
    record = _record(**{"object/is_crowd": [1], "object/area": [33.5]})
    dataset = open_tfrecord(_write(tmp_path / "a.tfrecord", record))
    assert dataset.is_crowd.tolist() == [True] and dataset.areas.tolist() == [33.5]


def test_size_may_be_absent(tmp_path):
    dataset = open_tfrecord(_write(tmp_path / "a.tfrecord", _record(height=[], width=[])))
    np.testing.assert_array_equal(dataset.sizes, [[20, 30]])
    np.testing.assert_array_equal(dataset.boxes, [[3, 4, 15, 18]])


@pytest.mark.parametrize(
    ("source_id", "expected"),
    [(b"abc", "abc"), (b"007", "007"), (b"9007199254740993", 9007199254740993), (b"", "x.png")],
)
def test_source_ids_are_kept_exactly(tmp_path, source_id, expected):
    dataset = open_tfrecord(_write(tmp_path / "a.tfrecord", _record(source_id=[source_id])))
    assert dataset.image_ids.tolist() == [expected]


def test_records_without_boxes_are_background(tmp_path):
    empty = _record(
        source_id=[b"18"],
        filename=[b"y.png"],
        **{f"object/bbox/{side}": [] for side in ("xmin", "ymin", "xmax", "ymax")},
        **{"object/class/label": [], "object/class/text": []},
    )
    dataset = open_tfrecord(_write(tmp_path / "a.tfrecord", _record(), empty))
    assert dataset.problems.counts == {"empty_image": 1}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('{"bee": 2, "ant": 1}', "labels.json"),
        ('{"1": "ant", "2": "bee"}', "labels.json"),
        ('{"classes": [{"id": 2, "name": "bee"}, {"id": 1, "name": "ant"}]}', "labels.json"),
        ("item { id: 1\n name: 'ant' }\nitem { name: \"bee\"\n id: 2 }", "labels.pbtxt"),
    ],
)
def test_label_files_of_every_form_are_read(tmp_path, content, name):
    (tmp_path / name).write_text(content)
    path = _write(tmp_path / "a.tfrecord", _record(**{"object/class/text": []}))
    dataset = open_dataset(f"tfrecord:{path}:{tmp_path / name}")
    assert dataset.class_names == ("ant", "bee") and dataset.labels.tolist() == [1]


@pytest.mark.parametrize("content", ["no json", "[1]", "{}", '{"a": "b"}', '{"classes": [{}]}'])
def test_wrong_label_files_end_with_a_sentence(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match=r"labels\.json"):
        read_labels(str(tmp_path / "labels.json"))


def test_records_without_names_ask_for_a_label_file(tmp_path):
    path = _write(tmp_path / "a.tfrecord", _record(**{"object/class/text": []}))
    with pytest.raises(UserError, match="tfrecord:PATTERN:LABELS"):
        open_tfrecord(path)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"object/class/label": [2, 2]}, "unreadable_annotation"),
        ({"object/bbox/xmin": []}, "unreadable_annotation"),
        ({"encoded": [b"x"], "height": []}, "unreadable_image"),
        ({"object/bbox/xmin": [float("nan")]}, "box_not_finite"),
        ({"object/bbox/xmin": [0.5]}, "box_no_area"),
        ({"object/bbox/xmax": [1.5]}, "box_outside"),
    ],
)
def test_damaged_records_are_counted(tmp_path, changes, kind):
    other = _record(filename=[b"y.png"], source_id=[b"1"], **changes)
    dataset = open_tfrecord(_write(tmp_path / "a.tfrecord", _record(), other))
    assert dataset.problems.counts[kind] == 1


def test_file_that_ends_early_keeps_what_is_complete(tmp_path):
    records = [_record(filename=[b"%d" % k], source_id=[b"%d" % k]) for k in range(3)]
    path = tmp_path / "a.tfrecord"
    _write(path, *records)
    path.write_bytes(path.read_bytes()[:-20])
    dataset = open_tfrecord(str(path))
    assert len(dataset) == 2 and dataset.problems.counts["truncated_record"] == 1


def test_file_of_something_else_ends_with_a_sentence(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"This is not a record file, but text." * 9)
    with pytest.raises(UserError, match="no readable record"):
        open_tfrecord(str(tmp_path / "a.tfrecord"))


def test_compressed_records_are_refused(tmp_path):
    path = _write(tmp_path / "a", _record())
    with gzip.open(tmp_path / "a.tfrecord", "wb") as file, open(path, "rb") as source:
        file.write(source.read())
    with pytest.raises(UserError, match="gunzip"):
        open_tfrecord(str(tmp_path / "a.tfrecord"))


@pytest.mark.parametrize(
    ("file", "prefix"),
    [
        ("a/train-00000-of-00008.tfrecord", "a/train"),
        ("a/train-00000-of-00008", "a/train"),
        ("train.tfrecord", "train"),
    ],
)
def test_prefix_of_shards(file, prefix):
    assert shard_prefix(file) == prefix
