"""Exports for LiteRT, ONNX Runtime and OpenVINO detect what the model detects."""

import json

import keras
import numpy as np
import pytest

import tfdet
from tfdet.data import sources
from tfdet.detectors.calibration import EFFORTS, Calibration
from tfdet.errors import UserError
from tfdet.serving import (
    compare,
    description,
    export,
    formats,
    measure,
    verify,
    verify_pieces,
)
from tfdet.serving.driver import ModelDriver, SavedModelDriver, threshold_for
from tfdet.serving.exported import open_exported

PACKAGES = {
    "litert": ("ai_edge_litert",),
    "onnx": ("onnxruntime", "tf2onnx"),
    "openvino": ("openvino",),
}
# The smallest member of each family, static and dynamic.
FAMILIES = [
    "efficientdet-test",
    "retinanet-test",
    "fcos-test",
    "packdet-test",
    "yolov7-test",
    "faster-rcnn-test",
    "mask-rcnn-test",
    "detr-test",
    "dy-efficientdet-test",
    "dy-yolov7-test",
    "dy-faster-rcnn-test",
    "dy-mask-rcnn-test",
    "caddet-test",
]
# With seed 0 two of its scores are equal, and either detection may suppress the other.
SEEDS = {"retinanet-test": 1}
# What a form cannot express, and what it says about it.
REFUSED = {("caddet-test", "onnx"): "onnx cannot express this detector"}


def need(*names):
    for name in names:
        pytest.importorskip(name, reason=f"{name} is not installed; it is an extra of tfdet")


def lively(name, seed=0):
    """A model whose scores are apart from each other, as those of a trained one are."""
    keras.utils.set_random_seed(seed)
    model = tfdet.create(name, num_classes=5)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.6, 1.6, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(random.normal(0, 0.3, variable.shape))
        elif variable.name == "bias" and np.mean(variable) < -2:  # of rare objects
            variable.assign(random.normal(-0.5, 0.5, variable.shape))
    return model


def eight_images(model):
    """Pictures of eight sizes, fitted."""
    height, width = model.image_size
    images = [
        verify._crowded_scene(height + 9 * (i % 3) - 5, width // (1 + i % 2) + i, seed=i)
        for i in range(8)
    ]
    return verify_pieces.fitted(model, images)


@pytest.fixture(scope="module")
def eight():
    return sources.open_dataset("shapes:val").select(range(8))


@pytest.fixture(scope="module", params=PACKAGES)
def export_of(request, make_model, eight, tmp_path_factory):
    """Form, model, folder and difference of a small EfficientDet's export."""
    need(*PACKAGES[request.param])
    model = make_model()
    path = tmp_path_factory.mktemp("export") / request.param
    return request.param, model, path, export.export(model, path, format=request.param, data=eight)


def test_exporter_compares_in_a_new_process(export_of):
    _, _, _, difference = export_of
    assert difference.mismatches == ()
    # Of 1 + 3 + 3 pictures and 8 photos.
    assert difference.detections == 100 * 15
    assert difference.box < 0.01
    assert difference.score < 1e-5


def test_driver_finds_what_the_model_finds(export_of):
    _, model, path, _ = export_of
    driver, own = open_exported(path), ModelDriver(model)
    for name in ("class_names", "class_ids", "image_size", "pad_value", "threshold"):
        assert getattr(driver, name) == getattr(own, name)
    images = np.stack([verify._crowded_scene(37, 121, seed) for seed in (1, 2)])
    found = compare.compare(own.detect(images), driver.detect(images), "images")
    assert found.mismatches == ()
    assert found.detections == 200
    fitted = eight_images(model)
    found = compare.compare(own.detect_fitted(*fitted), driver.detect_fitted(*fitted), "fitted")
    assert found.mismatches == ()
    assert found.detections == 800


def test_empty_batches_have_no_detections(export_of):
    *_, path, _ = export_of
    found = open_exported(path).detect(np.zeros((0, 40, 50, 3), np.uint8))
    assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
        "boxes": ((0, 100, 4), np.float32),
        "scores": ((0, 100), np.float32),
        "labels": ((0, 100), np.int32),
        "count": ((0,), np.int32),
    }


def test_a_static_model_takes_no_threshold(export_of):
    *_, path, _ = export_of
    with pytest.raises(UserError, match="the model is static"):
        open_exported(path).detect(np.zeros((1, 8, 8, 3), np.uint8), threshold=0.5)


def test_an_export_is_replaced_and_nothing_else_is(export_of, tmp_path):
    *_, path, _ = export_of
    export.check_replaceable(path)
    other = tmp_path / "mine"
    other.mkdir()
    for file in path.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"also holds thesis\.txt"):
        export.check_replaceable(other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is not a JSON file"),
        (lambda text: text.replace('"pad_value"', '"colour"'), "unknown key 'colour'"),
        (lambda text: text.replace('"pieces"', '"files"'), "unknown key 'files'"),
        (lambda text: text.replace('"detector"', '"../detector"'), "names a piece"),
    ],
)
def test_damaged_descriptions_are_refused(export_of, tmp_path, damage, message):
    *_, path, _ = export_of
    (tmp_path / description.FILE).write_text(damage((path / description.FILE).read_text()))
    with pytest.raises(UserError, match=message):
        open_exported(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_damaged_networks_are_refused(export_of, tmp_path, content):
    _, _, path, _ = export_of
    for file in path.iterdir():
        is_network = file.suffix in (".tflite", ".onnx", ".xml")
        if is_network and content is not None:
            (tmp_path / file.name).write_bytes(content)
        elif not is_network:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="cannot be loaded; export it again"):
        open_exported(tmp_path)


def test_a_file_stands_for_its_folder(export_of):
    *_, path, _ = export_of
    for file in path.iterdir():
        assert open_exported(file).class_ids == (3, 7, 90)


def test_saved_models_are_opened_too(exported):
    assert isinstance(open_exported(exported[0]), SavedModelDriver)


@pytest.mark.parametrize(
    ("form", "precision", "more", "message"),
    [
        ("saved_model", "int8", {}, "in float32 only"),
        ("onnx", "float64", {}, "onnx is not written in float64; choose from float32"),
        ("tensorrt", "float32", {}, "expected a format of saved_model, litert, onnx, openvino"),
        ("litert", "int8", {"has_data": False}, "int8 needs data"),
        ("litert", "float32", {"native_ops": True}, "native_ops are for SavedModels"),
    ],
)
def test_what_cannot_be_written_is_refused_first(form, precision, more, message, monkeypatch):
    monkeypatch.setattr(formats, "_is_missing", lambda module: False)
    with pytest.raises(UserError, match=message):
        export.check(form, precision, **more)


@pytest.mark.parametrize("form", formats.FORMS)
def test_a_missing_package_is_named_with_its_extra(form, monkeypatch):
    monkeypatch.setattr(formats, "_is_missing", lambda module: True)
    with pytest.raises(UserError, match=rf"pip install 'tfdet\[{form}\]'"):
        export.check(form, "float32")


def test_wrong_export_is_noticed_and_not_kept(make_model, tmp_path, monkeypatch):
    need("ai_edge_litert")
    model = make_model()
    honest = model.decode

    def shifted(raw, image_size):
        found = honest(raw, image_size)
        return {**found, "labels": found["labels"] * 0}

    with pytest.raises(RuntimeError, match="differs from the model: batch of 1"):
        # The pieces are made while it is wrong, the expected detections after that.
        with monkeypatch.context() as patch:
            patch.setattr(model, "decode", shifted)
            pieces = export.pieces_of(model, formats.form("litert"), "float32")
        monkeypatch.setattr(export, "pieces_of", lambda *_: pieces)
        export.export(model, tmp_path / "served", format="litert")
    assert list(tmp_path.iterdir()) == []


def calibrate(model, fitted):
    """Gives a dynamic model a table whose effort of 0.3 parts the scores of these images."""
    if model.score == "easiness":
        tell_apart(model, fitted)
    least, most = model.threshold_ends
    scores = ModelDriver(model).detect_fitted(*fitted, most)[model.score]
    inner = verify._parting(scores, min(least, most))
    thresholds = np.interp(EFFORTS, [0, 0.3, 1], [least, inner, most])
    shares, macs = tuple(EFFORTS.tolist()), tuple((1e6 * (1 + EFFORTS)).tolist())
    model.calibration = Calibration(len(scores), tuple(thresholds.tolist()), shares, macs, macs)


def tell_apart(model, fitted):
    """Has a cascade's router give these images scores around a half that are far apart."""
    score, most = model.router.score, model.threshold_ends[1]
    easiness = ModelDriver(model).detect_fitted(*fitted, most)["easiness"].astype(np.float64)
    logits = np.log(easiness / (1 - easiness))
    score.kernel.assign(score.kernel / logits.std())
    score.bias.assign((score.bias - logits.mean()) / logits.std())


def found_without_tfdet(path, fitted, effort):
    """What a SavedModel gives in a process that has TensorFlow alone."""
    name = "serving_fitted/eight"
    given = {"scale": fitted.scale, "size": fitted.size}
    if effort is not None:
        given |= {"effort": np.float32(effort), "threshold": np.float32(-1)}
    inputs = {name: fitted.canvas, **{f"GIVEN/{key}/{name}": x for key, x in given.items()}}
    return verify._batch(verify._replay(path, "", inputs), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("form", [formats.SAVED_MODEL, *PACKAGES])
def test_every_family_detects_the_same_at_every_effort(name, form, tmp_path):
    need(*PACKAGES.get(form, ()))
    model = lively(name, SEEDS.get(name, 0))
    fitted = eight_images(model)
    efforts = (0.0, 0.3, 1.0) if model.is_dynamic else (None,)
    if model.is_dynamic:
        calibrate(model, fitted)
    path = tmp_path / "served"
    if (name, form) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name, form]):
            export.export(model, path, format=form)
        return
    assert export.export(model, path, format=form).detections > 0
    own, total = ModelDriver(model), 0
    driver = None if form == formats.SAVED_MODEL else open_exported(path)
    for effort in efforts:
        at = None if effort is None else threshold_for(own, effort=effort)
        expected = own.detect_fitted(*fitted, at)
        if driver:
            found = driver.detect_fitted(*fitted, at)
        else:
            found = found_without_tfdet(path, fitted, effort)
        difference = compare.compare(expected, found, f"{name} at {effort}")
        assert difference.mismatches == ()
        total += difference.detections
    assert total > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "precision", "packages"),
    [
        ("litert", "float16", ("ai_edge_litert",)),
        ("litert", "int8", ("ai_edge_litert",)),
        ("openvino", "bfloat16", ("openvino",)),
        ("openvino", "int8", ("openvino", "nncf")),
    ],
)
def test_coarser_numbers_cost_two_points_of_ap_at_most(form, precision, packages, tmp_path):
    need(*packages)
    model = tfdet.create("fcos-nano", weights="shapes")  # of random ones, rounding chooses others
    data = sources.open_dataset("shapes:val")
    path = tmp_path / "served"
    difference = export.export(
        model, path, format=form, precision=precision, data=data.select(range(100))
    )
    assert json.loads((path / description.FILE).read_text())["precision"] == precision
    assert difference.lost <= 0.1 * difference.detections
    assert difference.score > 0
    other = data.select(range(100, 200))  # ranges were not chosen on these
    own = measure.average_precision(ModelDriver(model), other)
    assert own > 0.7
    assert measure.average_precision(open_exported(path), other) > own - 0.02
