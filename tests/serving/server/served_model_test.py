"""Tests of models of other kinds: static, without a calibration, with one effort for a batch."""

import base64
import json
import shutil
import time

import numpy as np
import pytest

import tfdet
from tfdet.errors import UserError
from tfdet.serving import export, verify
from tfdet.serving.server import saved_model
from tfdet.serving.server.metrics import Metrics
from tfdet.serving.server.refusal import Refusal
from tfdet.serving.server.requests import parse_predict
from tfdet.serving.server.served_model import ServedModel, ServingOptions, describe_metrics


@pytest.fixture
def serve(tmp_path, samples):
    """A model, exported without being compared, and served."""
    served = []

    def start(model, **options):
        folder = tmp_path / "saved_model"
        folder.mkdir()
        export._save(model, folder, native_ops=False)
        metrics = Metrics()
        describe_metrics(metrics)
        served.append(ServedModel("m", folder, ServingOptions(2, **options), samples, metrics))
        return served[-1]

    yield start
    for one in served:
        one.queue.close(60)


def _ask(model, content, **others):
    inputs = {"encoded": [{"b64": base64.b64encode(content).decode()}], **others.pop("inputs", {})}
    body = {"signature_name": "serving_encoded", "inputs": inputs, **others}
    request = parse_predict(json.dumps(body).encode(), model.inputs)
    model.check(request)
    (ticket,) = model.reserve(1, time.monotonic())
    try:
        item = model.prepare(request, 0)
    except Refusal:
        model.queue.give_back(ticket)
        raise
    model.queue.put(ticket, item, model.key(item))
    return ticket.result.result(60).outputs


def test_a_static_model_has_no_effort(make_model, serve, pictures):
    model = serve(make_model(), slo_ms=100.0, effort=None)
    found = _ask(model, pictures["png"])
    assert set(found) == {"boxes", "scores", "labels", "count", "is_readable", "status"}
    about = model.about()
    assert (about["is_dynamic"], about["effort"], about["slo_ms"]) == (False, None, None)
    with pytest.raises(Refusal, match="takes no min_effort"):
        _ask(model, pictures["png"], min_effort=0.5)
    with pytest.raises(Refusal, match="must have the keys encoded, got effort, encoded"):
        _ask(model, pictures["png"], inputs={"effort": 0.5})


@pytest.mark.slow
def test_a_dynamic_model_without_a_calibration_takes_a_threshold(make_dynamic, serve, pictures):
    model = serve(make_dynamic(), slo_ms=100.0)
    assert model.controller is None
    hard = [
        bool(_ask(model, pictures["png"], inputs={"threshold": x})["is_hard"]) for x in (0.0, 1.0)
    ]
    assert hard == [False, True]
    with pytest.raises(Refusal, match="takes no min_effort"):
        _ask(model, pictures["png"], min_effort=0.5)


@pytest.mark.slow
def test_a_caddet_takes_an_effort_for_all_images(serve, pictures):
    model = tfdet.create("caddet-test", num_classes=3)
    model.calibrate([np.stack([verify._crowded_scene(64, 64, seed=i) for i in range(4)])])
    served = serve(model, slo_ms=60_000.0)
    assert _ask(served, pictures["png"])["effort"] == 1.0
    found = [_ask(served, pictures["png"], inputs={"effort": x}) for x in (0.0, 0.5, 1.0)]
    assert [float(one["effort"]) for one in found] == [0.0, 0.5, 1.0]
    costs = [float(one["macs"]) for one in found]
    assert costs == sorted(costs)
    assert costs[0] < costs[2]
    with pytest.raises(Refusal, match="must have the shape"):
        _ask(served, pictures["png"], inputs={"effort": [0.5]})


def test_the_highest_version_of_a_folder_is_served(tmp_path):
    for name in ("1", "9", "10", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    assert saved_model.find_version(tmp_path) == (tmp_path / "10", 10)
    assert saved_model.find_version(tmp_path / "9") == (tmp_path / "9", 9)
    assert saved_model.find_version(tmp_path / "new") == (tmp_path / "new", 1)
    for name in ("1", "9", "10"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(UserError, match="holds neither"):
        saved_model.find_version(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        saved_model.find_version(tmp_path / "1")
