"""Tests of the exported model: what another program gets."""

import io
import os
import pathlib
import shutil
import subprocess
import sys
import types
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.errors import UserError
from tfdet.serving import compare, export, network, signatures, verify
from tfdet.serving.image_status import DAMAGED, DETECTED, TOO_LARGE

# What the metadata are made of.
FACTS = ("class_names", "class_ids", "image_size", "pad_value", "is_dynamic", "route_map")


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(str(exported[0]))


def _scenes(*sizes):
    return [
        verify._crowded_scene(*size, seed=i) if i % 2 else verify._empty_scene(*size)
        for i, size in enumerate(sizes, 1)
    ]


def _file(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, **options)
    return file.getvalue()


def test_exporter_reports_what_it_compared(exported):
    _, difference = exported
    assert difference.mismatches == ()
    assert difference.detections == 800
    assert difference.box < 0.01
    assert difference.score < 1e-5
    assert difference.tied == 0


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 37, 121), (2, 300, 11)])
def test_images_give_what_predict_gives(model, served, batch, height, width):
    images = np.stack(_scenes(*[(height, width)] * batch))
    found = served.signatures["serving_default"](images=images)
    expected = model.predict(images, verbose=0)
    assert set(found) == set(expected)
    assert compare.compare(expected, found, "images").mismatches == ()
    for name in expected:  # here even their order is the same
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3])
def test_encoded_images_of_different_sizes_give_what_predict_gives(model, served, batch):
    images = _scenes((50, 90), (131, 40), (64, 64))[:batch]
    encoded = tf.constant([_file(image, format="PNG") for image in images])
    found = served.signatures["serving_encoded"](encoded=encoded)
    for i, image in enumerate(images):
        expected = model.predict(image[None], verbose=0)
        single = {name: values[i : i + 1] for name, values in found.items()}
        assert compare.compare(expected, single, "encoded").mismatches == ()


@pytest.mark.parametrize(
    ("signature", "empty"),
    [
        ("serving_default", {"images": np.zeros((0, 40, 50, 3), np.uint8)}),
        ("serving_encoded", {"encoded": np.zeros((0,), str)}),
    ],
)
def test_empty_batch_gives_empty_detections(served, signature, empty):
    found = served.signatures[signature](**{k: tf.constant(v) for k, v in empty.items()})
    shapes = {name: (tuple(values.shape), values.dtype) for name, values in found.items()}
    assert shapes == {
        "boxes": ((0, 100, 4), tf.float32),
        "scores": ((0, 100), tf.float32),
        "labels": ((0, 100), tf.int32),
        "count": ((0,), tf.int32),
        **(
            {"is_readable": ((0,), tf.bool), "status": ((0,), tf.int32)}
            if signature == "serving_encoded"
            else {}
        ),
    }


def _claiming(width, height):
    """A PNG of 32x32 whose header claims another size."""
    whole = _file(np.zeros((32, 32, 3), np.uint8), format="PNG")
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:29]
    return whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]


def test_a_bad_image_costs_its_own_row_alone(served):
    good = [_file(image, format="PNG") for image in _scenes((50, 90), (131, 40))]
    bad = [b"", b"no image", good[0][:200], _claiming(17_000, 17_000), _claiming(0, 5)]
    function = served.signatures["serving_encoded"]
    alone = function(encoded=tf.constant(good))
    assert alone["is_readable"].numpy().all()
    mixed = [good[0], *bad, good[1]]
    found = {k: v.numpy() for k, v in function(encoded=tf.constant(mixed)).items()}
    assert found.pop("is_readable").tolist() == [x in good for x in mixed]
    too_large = 4  # by its header alone
    expected = [DETECTED] + [DAMAGED] * len(bad) + [DETECTED]
    expected[too_large] = TOO_LARGE
    assert found.pop("status").tolist() == expected
    assert not found["count"][1:-1].any()
    assert not found["boxes"][1:-1].any()
    assert not found["scores"][1:-1].any()
    assert (found["labels"][1:-1] == -1).all()
    kept = {name: values[[0, -1]] for name, values in found.items()}
    assert compare.compare({k: alone[k] for k in kept}, kept, "mixed").mismatches == ()


@pytest.mark.parametrize("shape", [(1, 30, 40, 1), (1, 30, 40, 4), (2, 0, 40, 3), (1, 30, 0, 3)])
def test_images_of_another_form_are_refused_in_words(served, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="images must be RGB, "):
        served.signatures["serving_default"](images=tf.zeros(shape, tf.uint8))


def test_encoded_photo_is_turned_as_its_exif_says(model, served):
    image = verify._crowded_scene(60, 100, seed=7)
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = _file(image, format="JPEG", quality=95, exif=exif.tobytes())
    upright = np.rot90(tf.io.decode_jpeg(encoded).numpy(), -1)
    found = served.signatures["serving_encoded"](encoded=tf.constant([encoded]))
    expected = model.predict(upright[None], verbose=0)
    assert compare.compare(expected, found, "exif").mismatches == ()


def test_metadata_names_the_classes(served):
    found = served.signatures["metadata"]()
    assert [name.decode() for name in found["class_names"].numpy()] == ["disc", "größe", "star"]
    assert found["class_ids"].numpy().tolist() == [3, 7, 90]
    assert found["image_size"].numpy().tolist() == [64, 64]


@pytest.fixture(scope="module")
def loaded_elsewhere(exported):
    """A process that has loaded the export, and looked at its operations."""
    program = (
        "import sys, tensorflow as tf\n"
        "print('loading', file=sys.stderr)\n"
        "tf.saved_model.load(sys.argv[1])\n"
        "print('loaded', file=sys.stderr)\n"
        "from tensorflow.core.protobuf import saved_model_pb2\n"
        "written = open(sys.argv[1] + '/saved_model.pb', 'rb').read()\n"
        "graph = saved_model_pb2.SavedModel.FromString(written).meta_graphs[0].graph_def\n"
        "nodes = list(graph.node) + [n for f in graph.library.function for n in f.node_def]\n"
        "own = {f.signature.name for f in graph.library.function}\n"
        "for op in {node.op for node in nodes} - own:\n"
        "    assert hasattr(tf.raw_ops, op), op\n"
        "assert not any('_gradient_op_type' in node.attr for node in nodes)\n"
        "assert 'tfdet' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, str(exported[0])]
    return subprocess.run(command, capture_output=True, text=True)


def test_export_has_neither_variables_nor_foreign_ops(exported, loaded_elsewhere):
    path, _ = exported
    assert (path / "variables" / "variables.data-00000-of-00001").stat().st_size < 1000
    assert loaded_elsewhere.returncode == 0, loaded_elsewhere.stderr


def test_network_is_stored_once(model, exported):
    weights = 4 * sum(int(np.prod(v.shape)) for v in model.weights)
    size = (exported[0] / "saved_model.pb").stat().st_size
    graph = size - weights
    assert 0 < graph < 1_000_000


def test_loading_prints_nothing_of_its_own(loaded_elsewhere):
    _, said = loaded_elsewhere.stderr.split("loading")
    said, _ = said.split("loaded")
    assert "gradient" not in said


@pytest.fixture(scope="module")
def suppressing(make_model):
    overrides = {"nms.method": "hard", "nms.mode": "global", "nms.max_candidates": 0}
    return make_model(seed=1, **overrides, **{"nms.score_threshold": 0.1})


def test_hard_global_suppression_survives_freezing(suppressing):
    canvas = np.stack(_scenes((64, 64), (64, 64), (64, 64))).astype(np.float32)
    expected = suppressing.detect_fitted(canvas)
    found = network.frozen_network(suppressing)(tf.constant(canvas))
    difference = compare.compare(expected, found, "frozen")
    assert difference.mismatches == ()
    assert 0 < difference.detections < 300


@pytest.mark.slow
def test_hard_global_suppression_survives_export(suppressing, tmp_path):
    difference = export.export(suppressing, tmp_path / "saved_model")
    assert difference.mismatches == ()
    assert 0 < difference.detections < 800


def test_wrong_export_is_noticed_in_all_that_it_serves_and_not_kept(model, tmp_path, monkeypatch):
    path, seen = tmp_path / "saved_model", []
    honest, metadata, prove = network.frozen_network, signatures.metadata_function, verify.verify

    def shifted(model):
        frozen = honest(model)

        def call(canvas):
            found = frozen(canvas)
            return {**found, "boxes": found["boxes"] + 1.0}

        return call

    def of_another(model, table):
        other = types.SimpleNamespace(**{name: getattr(model, name) for name in FACTS})
        other.class_ids = (1, 2, 4)
        return metadata(other, table)

    def watched(*args):
        seen.append(prove(*args))
        return seen[0]

    monkeypatch.setattr(network, "frozen_network", shifted)
    monkeypatch.setattr(signatures, "metadata_function", of_another)
    monkeypatch.setattr(verify, "verify", watched)
    with pytest.raises(UserError, match="differs from the model: metadata should be"):
        export.export(model, path)
    first, *others = seen[0].mismatches
    assert "'class_ids': (3, 7, 90)" in first and "'class_ids': (1, 2, 4)" in first
    for name in (
        *("serving_default, batch of 1", "serving_default, batch of 3", "serving_encoded"),
        "serving_fitted",
    ):
        assert any(sentence.startswith(name) for sentence in others), name
    assert list(tmp_path.iterdir()) == []


def test_failed_export_leaves_the_earlier_one(model, exported, tmp_path, monkeypatch):
    path = tmp_path / "saved_model"
    shutil.copytree(exported[0], path)
    before = (path / "saved_model.pb").read_bytes()

    def fail(model, folder, native_ops):
        pathlib.Path(folder, "saved_model.pb").write_bytes(b"half")
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(export, "_save", fail)
    with pytest.raises(OSError, match="No space left"):
        export.export(model, path)
    assert (path / "saved_model.pb").read_bytes() == before
    assert os.listdir(tmp_path) == ["saved_model"]


def test_folder_of_something_else_is_never_replaced(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not a SavedModel"):
        export.export(model, tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_other_models_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"as tfdet.create returns it, got str"):
        export.export("efficientdet-d0", tmp_path / "served")
