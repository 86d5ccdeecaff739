"""Tests of the requests that TensorFlow Serving warms up with."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from tfdet.serving import warm_up
from tfdet.serving.driver import LIBRARY_FOLDER


def _records(folder):
    return [x.numpy() for x in tf.data.TFRecordDataset(str(folder / warm_up.FILE))]


def _requests(folder):
    """Signature and inputs, as arrays, of each request."""
    logs = [warm_up.messages()["PredictionLog"].FromString(x) for x in _records(folder)]
    requests = [log.predict_log.request for log in logs]
    return [
        (
            one.model_spec.signature_name,
            {
                name: tf.make_ndarray(tensor_pb2.TensorProto.FromString(value.SerializeToString()))
                for name, value in one.inputs.items()
            },
        )
        for one in requests
    ]


def test_each_request_is_one_that_the_export_answers(exported):
    path, _ = exported
    signatures = tf.saved_model.load(str(path)).signatures
    requests = _requests(path / LIBRARY_FOLDER)
    assert len(requests) == 6
    seen = set()
    for name, inputs in requests:
        found = signatures[name](**{key: tf.constant(x) for key, x in inputs.items()})
        seen.add((name, len(found["count"])))
        if name == "serving_encoded":
            assert found["is_readable"].numpy().all()
    names = ("serving_default", "serving_encoded", "serving_fitted")
    assert seen == {(name, batch) for name in names for batch in (1, 2)}


def test_requests_are_small(exported):
    assert (exported[0] / LIBRARY_FOLDER / warm_up.FILE).stat().st_size < 10_000


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_a_dynamic_detector_is_asked_for_its_least_and_for_all(
    make_dynamic, tmp_path, is_calibrated
):
    warm_up.write(make_dynamic(), tmp_path, is_calibrated)
    for name in ("serving_default", "serving_encoded", "serving_fitted"):
        given = [inputs for key, inputs in _requests(tmp_path) if key == name]
        assert [float(x["threshold"]) for x in given] == [0.0, 1.0] * 2
        efforts = [float(x["effort"]) for x in given if "effort" in x]
        assert efforts == ([-1.0] * 4 if is_calibrated else [])


def test_tensorflow_serving_reads_the_same(exported):
    """By the definitions of its own package."""
    reason = "tensorflow-serving-api is not installed; it is no dependency of tfdet"
    logging_pb = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason=reason)
    ours = _requests(exported[0] / LIBRARY_FOLDER)
    records = _records(exported[0] / LIBRARY_FOLDER)
    for (name, inputs), content in zip(ours, records, strict=True):
        log = logging_pb.PredictionLog.FromString(content)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.signature_name == name
        assert request.model_spec.name == "efficientdet-test"
        assert set(request.inputs) == set(inputs)
        for key, value in request.inputs.items():
            np.testing.assert_array_equal(tf.make_ndarray(value), inputs[key])
