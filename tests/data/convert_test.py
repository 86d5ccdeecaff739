import json

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.convert import convert
from tfdet.data.sources import open_dataset
from tfdet.data.tfrecord import open_tfrecord
from tfdet.errors import UserError


def test_converted_set_writes_the_published_keys(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    shards = convert(dataset, str(tmp_path / "out" / "x"), 2)
    assert [s.rsplit("/", 1)[1] for s in shards] == [
        "x-00000-of-00002.tfrecord",
        "x-00001-of-00002.tfrecord",
    ]
    records = list(tf.data.TFRecordDataset(shards))
    assert len(records) == 4
    feature = tf.train.Example.FromString(records[0].numpy()).features.feature
    assert feature["image/source_id"].bytes_list.value[0] == b"3"
    assert feature["image/format"].bytes_list.value[0] == b"jpeg"
    assert list(feature["image/object/class/label"].int64_list.value) == [5, 25]
    assert list(feature["image/object/class/text"].bytes_list.value) == [b"ant", b"cat"]
    assert feature["image/height"].int64_list.value[0] == 40
    np.testing.assert_allclose(feature["image/object/bbox/xmin"].float_list.value[0], 3 / 60)
    labels = json.loads((tmp_path / "out" / "x-labels.json").read_text())
    assert labels["classes"][2] == {"id": 25, "name": "cat"}


def test_class_ids_from_zero_move_up_in_records(tmp_path, scenes):
    dataset = open_dataset(scenes.write_yolo(tmp_path))
    convert(dataset, str(tmp_path / "x"), 1)
    assert open_tfrecord(f"{tmp_path}/x-0*").class_ids == (1, 2, 3)


def test_converter_leaves_damaged_images_out(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    (tmp_path / "images" / "c3.jpg").write_bytes(b"broken")
    convert(dataset, str(tmp_path / "x"), 1)
    assert open_tfrecord(f"{tmp_path}/x-0*").names.tolist() == ["a1.jpg", "b2.jpg", "d4.jpg"]


def test_interrupted_conversion_leaves_nothing_behind(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path / "in"))

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(dataset, str(tmp_path / "out" / "x"), 2, stop)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("num_shards", [0, -1, 5])
def test_impossible_numbers_of_shards_are_refused(tmp_path, scenes, num_shards):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    with pytest.raises(UserError, match="1 to 4 shards"):
        convert(dataset, str(tmp_path / "x"), num_shards)
