"""Weights of a project and of our own into models, by `tfdet.create`."""

import logging

import numpy as np
import pytest

import tfdet
from tests.weights import fake_source, torch_files
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights import importing, loading, origins, own, stored

NAME = "efficientdet-test"


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    fake_source.install(monkeypatch)


@pytest.fixture(scope="module")
def model():
    return registry.create(NAME, num_classes=4)


@pytest.fixture
def path(model, tmp_path):
    torch_files.save(fake_source.checkpoint(model), tmp_path / "x.pth")
    return str(tmp_path / "x.pth")


def values_of(model):
    return {importing.path_in(model, v): np.asarray(v) for v in model.weights}


def test_a_checkpoint_fills_a_model_and_chooses_its_configuration(model, path):
    theirs = fake_source.checkpoint(model)
    for typed in (path, f"fake:{path}"):
        made = tfdet.create(NAME, weights=typed)
        assert (made.num_classes, made.config.activation) == (4, "relu6")
        assert made.config.nms.max_detections == 60
        for name, value in values_of(made).items():
            np.testing.assert_array_equal(value, theirs[f"net.{name.replace('/', '.')}"])


def test_a_user_may_choose_how_detections_are_chosen_and_nothing_else(path):
    made = tfdet.create(NAME, weights=path, **{"nms.max_detections": 30}, activation="relu6")
    assert made.config.nms.max_detections == 30
    with pytest.raises(UserError, match=r"is for activation='relu6', and activation='swish'"):
        tfdet.create(NAME, weights=path, activation="swish")


def test_other_classes_are_new_and_it_is_said(path, caplog):
    with caplog.at_level(logging.WARNING):
        made = tfdet.create(NAME, weights=path, num_classes=2, class_names=("a", "b"))
    assert "it is of 4 classes and the model of 2, so that the class outputs are new: " in (
        caplog.text
    )
    assert made.class_names == ("a", "b")
    fresh, report = loading.create_reported(NAME, path, {"num_classes": 2})
    assert len(report.per_class) == 2
    assert all(name.startswith("class_net/") for name in report.per_class)
    assert report.new == report.per_class
    assert len(report.used) == len(fresh.weights) - 2


def test_a_backbone_fills_a_backbone(model, tmp_path):
    theirs = fake_source.checkpoint(model, backbone_only=True)
    torch_files.save(theirs, tmp_path / "x.pth")
    made, report = loading.create_reported(NAME, str(tmp_path / "x.pth"), {})
    assert report.is_backbone
    assert {path for _, path in report.used} == {
        name for name in values_of(made) if name.startswith("backbone/")
    }
    assert not any(name.startswith("backbone/") for name in report.new)
    assert len(report.used) + len(report.new) == len(made.weights)


def test_the_report_names_every_tensor_and_every_variable(model, path):
    made, report = loading.create_reported(NAME, path, {"num_classes": 2})
    text = report.to_text()
    names = fake_source.checkpoint(model)
    used, unused = {name for name, _ in report.used}, set(report.unused)
    left_out = {f"net.{x.replace('/', '.')}" for x in report.per_class}
    assert used | unused | left_out == names.keys()
    for name in [*names, *values_of(made)]:
        assert name in text or name in left_out
    assert "setting  activation: relu6" in text


def damaged(model, path, change):
    content = fake_source.checkpoint(model)
    change(content)
    torch_files.save(content, path)
    with pytest.raises(UserError) as caught:
        tfdet.create(NAME, weights=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


KERNEL = "net.backbone.stem_conv.kernel"


def test_missing_strange_and_misshapen_tensors_are_refused(model, path):
    def nan(content):
        content[KERNEL][0, 0, 0, 0] = np.nan

    assert f"lacks {KERNEL}, which fake has" in damaged(model, path, lambda x: x.pop(KERNEL))
    said = damaged(model, path, lambda x: x.update(extra=np.zeros(3, "float32")))
    assert "has extra, which this model has no place for" in said
    said = damaged(model, path, lambda x: x.update({KERNEL: np.zeros((3, 3, 3, 9), "float32")}))
    shape = list(model.backbone.stem_conv.kernel.shape)
    assert f"{KERNEL} has the shape [3, 3, 3, 9]" in said
    assert str(shape) in said
    assert "not numbers (NaN or infinite) in net.backbone" in damaged(model, path, nan)
    large = np.full(model.backbone.stem_conv.kernel.shape, 1e300)
    assert "not numbers" in damaged(model, path, lambda x: x.update({KERNEL: large}))


def test_a_variable_without_a_tensor_is_an_error_unless_it_is_declared_new(
    model, path, monkeypatch
):
    gamma = "net.backbone.stem_bn.gamma"
    whole = fake_source.SOURCE.entries

    def without(made, shapes):
        return [x for x in whole(made, shapes) if x.name != gamma]

    content = fake_source.checkpoint(model)
    del content[gamma]
    torch_files.save(content, path)
    less = fake_source.SOURCE._replace(entries=without)
    origin = origins.open_origin(NAME, path)
    made = registry.create(NAME, num_classes=4, activation="relu6")
    with pytest.raises(UserError, match=r"nothing for 1 variables of the model, such as .*gamma"):
        loading.load(made, origin._replace(source=less), NAME)
    less = less._replace(new=lambda made, shapes: [made.backbone.stem_bn.gamma])
    report = loading.load(made, origin._replace(source=less), NAME)
    assert report.new == ("backbone/stem_bn/gamma",)


def test_files_that_nobody_knows(tmp_path):
    torch_files.save({"w": np.zeros(3, "float32")}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"1 tensors \(w\) and is of no project that is known"):
        tfdet.create(NAME, weights=str(tmp_path / "x.pth"))
    with pytest.raises(UserError, match="do not exist; give a file"):
        tfdet.create(NAME, weights="gone.pth")
    for typed in ("yolov7", "coco"):
        with pytest.raises(UserError, match=f"names a project and no file; give {typed}$"):
            tfdet.create("yolov7", weights=f"fake:{typed}")
    for typed, meant in (
        ("Imagnet", "imagenet"),
        ("torchvison-resnet18", "torchvision-resnet18"),
        (f"{tmp_path}/x.pt", f"{tmp_path}/x.pth"),
        (f"fakes:{tmp_path}/x.pth", "fake"),
    ):
        with pytest.raises(UserError, match=f"do not exist; did you mean '{meant}'"):
            tfdet.create(NAME, weights=typed)
    with pytest.raises(UserError, match="there are no weights 'shapes' of efficientdet-test"):
        tfdet.create(NAME, weights="shapes")


def test_folders_of_data_sets_do_not_hide_the_names_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path))
    for name in ("coco", "imagenet", "shapes", "yolov7"):
        (tmp_path / name).mkdir()
    for name, typed, says in (
        (
            "yolov7",
            "yolov7",
            "not on this machine; download .*`tfdet-weights fetch yolov7`",
        ),
        ("yolov7", "coco", "`tfdet-weights fetch yolov7`"),
        (NAME, "imagenet", "no published imagenet weights are known for efficientdet-test"),
        (NAME, "shapes", "there are no weights 'shapes' of efficientdet-test"),
        (NAME, "./coco", "a folder without a checkpoint of TensorFlow"),
    ):
        with pytest.raises(UserError, match=says):
            origins.open_origin(name, typed)


# Our own files


def test_settings_travel_in_our_own_files(model, path, tmp_path):
    made, report = loading.create_reported(NAME, path, {})
    stored.save(made, tmp_path / "own.weights.h5", report.settings)
    again = tfdet.create(NAME, weights=str(tmp_path / "own.weights.h5"))
    assert again.config == made.config
    for ours, theirs in zip(again.weights, made.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="would make another function"):
        tfdet.create(NAME, weights=str(tmp_path / "own.weights.h5"), activation="swish")


def test_our_own_files_are_of_no_project(model, tmp_path):
    stored.save(model, tmp_path / "own.weights.h5")
    with pytest.raises(UserError, match="is a file of tfdet; give it without 'fake'"):
        tfdet.create(NAME, weights=f"fake:{tmp_path}/own.weights.h5")


def test_half_precision_files(model, tmp_path):
    stored.save(model, tmp_path / "own.weights.h5", {"num_classes": 4})
    stored.save(model, tmp_path / "half.weights.h5", {"num_classes": 4}, half=True)
    sizes = [(tmp_path / f"{x}.weights.h5").stat().st_size for x in ("half", "own")]
    assert sizes[0] < sizes[1]
    again = tfdet.create(NAME, weights=str(tmp_path / "half.weights.h5"))
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_backbone_of_ours_fits_other_detectors(model, tmp_path):
    path = tmp_path / "backbone.weights.h5"
    names = own.backbone_of(stored.layout(model))
    stored.save(model, path, {}, names)
    _, report = loading.create_reported("retinanet-test", str(path), {})
    assert report.is_backbone
    assert not any(name.startswith("backbone/") for name in report.new)


def test_a_wrong_file_of_ours_is_refused_as_before(model, tmp_path):
    path = str(tmp_path / "wide.weights.h5")
    stored.save(registry.create(NAME, fpn_width=24), path)
    with pytest.raises(UserError, match="does not hold the weights of this model"):
        tfdet.create(NAME, weights=path)


def test_whole_models_of_ours_give_their_weights(model, tmp_path):
    path = str(tmp_path / "own.keras")
    model.save(path)
    again = tfdet.create(NAME, weights=path, num_classes=4)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match=r"own\.keras does not hold the weights of this model"):
        tfdet.create(NAME, weights=path, num_classes=4, fpn_width=24)
