import re

import pytest

from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights import catalog, sources


def test_names_are_unique_and_all_that_is_said_is_of_its_kind():
    names = [entry.name for entry in catalog.ENTRIES]
    assert len(names) == len(set(names)) > 50
    models = registry.list_models()
    for entry in catalog.ENTRIES:
        assert entry.source in sources.NAMES
        assert entry.kind in (catalog.COCO, catalog.IMAGENET)
        assert set(entry.models) <= set(models), entry.name
        assert entry.url.startswith("https://")
        assert re.fullmatch(
            r"|sha256:([0-9a-f]{8}|[0-9a-f]{64})|md5:[0-9a-f]{32}", entry.checksum
        ), entry.name
        assert entry.licence
        assert entry.kind == catalog.COCO or entry.ap is None
        assert entry.name not in (catalog.COCO, catalog.IMAGENET)


def test_digits_in_the_names_of_files_are_the_checksums():
    for entry in catalog.ENTRIES:
        if re.fullmatch(r"sha256:.{8}", entry.checksum):
            assert f"-{entry.checksum.removeprefix('sha256:')}.pth" in entry.url


def test_kinds_and_names_find_an_entry():
    assert catalog.find("retinanet-r50", "coco").name == "torchvision-retinanet-r50"
    assert catalog.find("retinanet-r50", "imagenet").name == "detectron-r50"
    assert catalog.find("efficientdet-d0", "coco").name == "effdet-d0"
    assert catalog.find("retinanet-r50", "mmdet-retinanet-r50").source == "mmdet"
    assert catalog.find("efficientdet-nano", "coco") is None


def test_a_name_that_is_none_is_an_error_that_offers_others():
    assert catalog.named("yolov7").source == "yolov7"
    for typed, says in (
        ("Torchvision-Resnet-18", "did you mean 'torchvision-resnet18'"),
        ("retinanet-r101", "for the model retinanet-r101: mmdet-retinanet-r101, detectron-r101$"),
        ("coco", "another file for each model"),
        ("https://example.org/x.pth", "'; `tfdet-weights list` shows all$"),
    ):
        with pytest.raises(UserError, match=says):
            catalog.named(typed)


def test_mmdetections_fcos_is_of_the_style_caffe():
    assert catalog.find("fcos-r50", "mmdet-fcos-r50").source == "mmdet_caffe"
    assert catalog.find("retinanet-r50", "mmdet-retinanet-r50").source == "mmdet"
