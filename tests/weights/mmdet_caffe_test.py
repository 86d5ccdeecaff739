"""The style "caffe"; `mmdet_test.py` compares it with the other one."""

from tests.weights import mmdet_test
from tfdet.weights.mmdet_caffe import SOURCE


def test_it_is_msras_network_with_an_epsilon():
    assert SOURCE.name == "mmdet_caffe"
    found = SOURCE.settings("fcos-r50", mmdet_test.FILES["fcos"])
    assert (found["backbone"], found["pixels"]) == ("r50-caffe", "detectron")
    found = SOURCE.settings("mask-rcnn-r50", mmdet_test.FILES["mask"])
    assert (found["backbone"], found["pixels"]) == ("r50-caffe", "imagenet")
