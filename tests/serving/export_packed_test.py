"""Exports of packed models: with TensorFlow's ops alone, and with the native PackOp."""

import subprocess
import sys

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

import tfdet
from tests.ops import pack_cases
from tfdet.errors import UserError
from tfdet.ops import pack_native
from tfdet.serving import compare, verify
from tfdet.serving.driver import LIBRARY_FOLDER, SavedModelDriver


@pytest.fixture(scope="module")
def packed():
    model = tfdet.create("packdet-test", num_classes=3)
    for variable in model.variables:
        if variable.path.endswith("class_conv/bias"):
            variable.assign(np.full(variable.shape, -1.0))
    return model


@pytest.fixture(scope="module")
def exports(packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    plain, native = folder / "plain", folder / "native"
    differences = [tfdet.export(packed, plain)]
    if pack_native.is_available():
        differences.append(tfdet.export(packed, native, native_ops=True))
    return plain, native, differences


def ops_of(path):
    content = (path / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def test_default_export_is_free_of_the_op(exports):
    plain, _, (difference, *_) = exports
    assert difference.mismatches == ()
    assert difference.detections > 100
    assert not any(op.startswith("Tfdet") for op in ops_of(plain))
    assert not (plain / LIBRARY_FOLDER / pack_native.LIBRARY).exists()


def test_native_export_runs_without_tfdet_once_its_library_is_loaded(exports):
    pack_cases.require_native()
    plain, native, (_, difference) = exports
    assert difference.mismatches == ()
    assert pack_native.OP in ops_of(native)
    program = (
        "import sys, numpy as np, tensorflow as tf\n"
        "try:\n"
        "    tf.saved_model.load(sys.argv[1])\n"
        "except RuntimeError as error:\n"
        "    assert 'TfdetPack' in str(error), error\n"
        "else:\n"
        "    raise AssertionError('loaded without the op')\n"
        "tf.load_op_library(sys.argv[1] + '/assets.extra/libtfdet_pack.so')\n"
        "images = tf.constant(np.load(sys.argv[3]))\n"
        "found = [tf.saved_model.load(path).signatures['serving_default'](images=images)\n"
        "         for path in sys.argv[1:3]]\n"
        "for name, value in found[0].items():\n"
        "    np.testing.assert_array_equal(value, found[1][name])\n"
        "assert found[0]['count'].numpy().min() > 20\n"
        "assert 'tfdet' not in sys.modules\n"
    )
    images = native.parent / "images.npy"
    np.save(images, np.stack([verify._crowded_scene(90, 70, seed) for seed in range(3)]))
    subprocess.run([sys.executable, "-c", program, native, plain, images], check=True)


def test_driver_loads_the_library_by_itself(packed, exports):
    pack_cases.require_native()
    images = np.stack([verify._crowded_scene(64, 64, seed) for seed in range(2)])
    found = SavedModelDriver(exports[1]).detect(images)
    expected = packed.predict(images, verbose=0)
    assert compare.compare(expected, found, "driver").mismatches == ()


def test_native_ops_are_refused_where_there_are_none(tmp_path, model, packed, monkeypatch):
    if pack_native.is_available():
        with pytest.raises(UserError, match="does not pack"):
            tfdet.export(model, tmp_path / "plain", native_ops=True)
    pack_native._load.cache_clear()
    monkeypatch.setenv("TFDET_PACK_LIBRARY", str(tmp_path / "nowhere.so"))
    with pytest.raises(UserError, match="is not there"):
        tfdet.export(packed, tmp_path / "native", native_ops=True)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    pack_native._load.cache_clear()
