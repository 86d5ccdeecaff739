import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.convert import convert
from tfdet.data.pipeline import eval_batches, train_batches
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError


@pytest.fixture
def formats(tmp_path, scenes):
    """One data set in every format."""
    datasets = {
        "coco": open_dataset(scenes.write_coco(tmp_path / "coco")),
        "voc": open_dataset(scenes.write_voc(tmp_path / "voc")),
        "yolo": open_dataset(scenes.write_yolo(tmp_path / "yolo")),
    }
    for name in ("coco", "voc", "yolo"):
        convert(datasets[name], str(tmp_path / "records" / name), 2)
        datasets[f"tfrecord from {name}"] = open_dataset(f"tfrecord:{tmp_path}/records/{name}-*")
    return datasets


def test_every_format_gives_the_same_arrays(formats, scenes):
    expected = [(x0, y0, x1, y1) for _, _, boxes in scenes.scenes for _, x0, y0, x1, y1 in boxes]
    for name, dataset in formats.items():
        np.testing.assert_array_equal(dataset.boxes, np.array(expected, np.float32), name)
        assert dataset.class_names == scenes.names, name
        assert [str(n).split(".")[0] for n in dataset.names] == ["a1", "b2", "c3", "d4"], name


def test_every_format_gives_identical_batches(formats):
    first, *others = formats.values()
    for make in (_train, _eval):
        expected = make(first)
        for other in others:
            for a, b in zip(expected, make(other), strict=True):
                np.testing.assert_array_equal(a, b)


def _train(dataset):
    return tf.nest.flatten(list(train_batches(dataset, (32, 40), 3, seed=2).take(4)))


def _eval(dataset):
    return tf.nest.flatten(list(eval_batches(dataset, (32, 40), 3)))


def test_real_photographs_give_identical_batches_as_records(coco_tiny, tmp_path):
    spec = f"coco:{coco_tiny}/annotations/instances_val2017.json:{coco_tiny}/val2017"
    dataset = open_dataset(spec).subset(12)
    convert(dataset, str(tmp_path / "val"), 3)
    records = open_dataset(f"tfrecord:{tmp_path}/val-*")
    assert records.class_ids == dataset.class_ids
    np.testing.assert_array_equal(records.image_ids, dataset.image_ids)
    for a, b in zip(_train(dataset), _train(records), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "expected one of shapes"),
        ("cocoo:a:b", "expected one of shapes"),
        ("coco:a.json", "no file 'a.json'"),
        ("coco", "expected coco:ANNOTATIONS"),
        ("coco:a.json:b:c", "expected coco:ANNOTATIONS"),
        ("coco:nothing.json:/tmp", "nothing.json"),
        ("voc", "expected voc:DIR"),
        ("voc:/nowhere", "/nowhere"),
        ("yolo:/nowhere", "no file '/nowhere'"),
        (r"voc:C:\nowhere\cells:train", r"C:\\\\nowhere\\\\cells'"),
        (r"coco:C:\no.json:C:\no", r"no file 'C:\\\\no.json'"),
        ("voc:/nowhere:train", "/nowhere"),
        ("yolo:nothing.yaml:train", "nothing.yaml"),
        ("tfrecord:/nowhere/*.tfrecord", "no file matches"),
        ("shapes:test", "shapes:test"),
        ("shapes:train:-1", "count '-1'"),
        ("shapes:train:0", "1 to 100000"),
        ("shapes:train:", "expected shapes"),
    ],
)
def test_wrong_names_end_with_a_sentence(spec, message):
    with pytest.raises(UserError, match=message):
        open_dataset(spec)


def test_classes_of_a_model_reorder_the_labels():
    own = open_dataset("shapes:val:20")
    names = ("cross", "circle", "square", "triangle", "star")
    dataset = open_dataset("shapes:val:20", class_names=names, class_ids=(9, 8, 7, 6, 5))
    assert dataset.class_names == names and dataset.class_ids == (9, 8, 7, 6, 5)
    assert [names[k] for k in dataset.labels] == [own.class_names[k] for k in own.labels]
    np.testing.assert_array_equal(dataset.boxes, own.boxes)


def test_boxes_of_classes_that_a_model_lacks_are_left_out():
    own = open_dataset("shapes:val:20")
    dataset = open_dataset("shapes:val:20", class_names=("star", "moon"))
    count = np.count_nonzero(own.labels == own.class_names.index("star"))
    assert len(dataset.boxes) == count and np.all(dataset.labels == 0)
    assert len(dataset) == 20
    assert dataset.problems.counts["unknown_class"] == len(own.boxes) - count


def test_no_common_class_is_an_error():
    with pytest.raises(UserError, match="circle, square"):
        open_dataset("shapes:val:5", class_names=("sun", "moon"))


def test_what_is_no_text_names_no_data_set():
    with pytest.raises(UserError, match="expected text such as coco:"):
        open_dataset(["shapes"])
