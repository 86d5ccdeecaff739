"""Tests of the whole application over the smallest exported cascade, by requests."""

import asyncio
import base64
import concurrent.futures
import json
import pathlib
import random
import re
import resource

import numpy as np
import pytest
import tensorflow as tf

from tfdet.serving import compare, verify

pytest.importorskip("starlette", reason="the extra [serve] is not installed")
pytest.importorskip("httpx", reason="Starlette's test client needs it")
from starlette.testclient import TestClient

from tfdet.serving.server.application import BodyLimits, make_application
from tfdet.serving.server.metrics import Metrics
from tfdet.serving.server.served_model import ServedModel, ServingOptions, describe_metrics

PREDICT = "/v1/models/cells:predict"


@pytest.fixture(scope="module")
def metrics():
    metrics = Metrics()
    describe_metrics(metrics)
    return metrics


@pytest.fixture(scope="module")
def model(dynamic_folder, samples, metrics):
    options = ServingOptions(batch_size=4, max_wait_ms=2, queue_size=16)
    return ServedModel("cells", dynamic_folder, options, samples, metrics)


@pytest.fixture(scope="module")
def slo_model(dynamic_folder, samples, metrics):
    options = ServingOptions(batch_size=4, max_wait_ms=0, queue_size=64, slo_ms=60_000)
    return ServedModel("slo", dynamic_folder, options, samples, metrics)


@pytest.fixture(scope="module")
def client(model, slo_model, samples, metrics):
    with TestClient(make_application([model, slo_model], metrics, samples)) as client:
        yield client


@pytest.fixture(scope="module")
def signatures(dynamic_folder):
    return tf.saved_model.load(str(dynamic_folder / "3")).signatures


def _arrays(outputs):
    """Detections of an answer's outputs, as `compare` takes them."""
    kinds = {"boxes": "f4", "scores": "f4", "labels": "i4", "count": "i4", "is_hard": "?"}
    about = ("is_readable", "status")
    return {k: np.array(v, kinds.get(k, "f4")) for k, v in outputs.items() if k not in about}


def _encoded(client, files, b64, **others):
    """The outputs of a request in column form."""
    body = {
        "signature_name": "serving_encoded",
        "inputs": {"encoded": [b64(file) for file in files], **others.pop("inputs", {})},
        **others,
    }
    response = client.post(others.pop("url", PREDICT), json=body)
    assert response.status_code == 200, response.text
    return response.json()["outputs"]


def test_status_and_metadata_are_tensorflow_servings(client, dynamic_folder):
    status = {
        "model_version_status": [
            {
                "version": "3",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for path in ("/v1/models/cells", "/v1/models/cells/versions/3", "/V1/Models/cells"):
        assert client.get(path).json() == status
    metadata = client.get("/v1/models/cells/metadata").json()
    assert metadata["model_spec"] == {"name": "cells", "signature_name": "", "version": "3"}
    definitions = metadata["metadata"]["signature_def"]["signature_def"]
    assert definitions["serving_encoded"]["inputs"]["encoded"] == {
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "serving_encoded_encoded:0",
    }
    assert definitions["serving_encoded"]["inputs"]["effort"]["tensor_shape"] == {
        "dim": [],
        "unknown_rank": True,
    }


def test_answers_parse_as_tensorflow_servings_messages(client, dynamic_folder):
    why = "tensorflow-serving-api is not installed"
    status_pb2 = pytest.importorskip("tensorflow_serving.apis.get_model_status_pb2", reason=why)
    metadata_pb2 = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2", reason=why)
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import model_pb2

    status = json_format.ParseDict(
        client.get("/v1/models/cells").json(), status_pb2.GetModelStatusResponse()
    )
    (version,) = status.model_version_status
    assert (version.version, version.state) == (3, status_pb2.ModelVersionStatus.AVAILABLE)
    assert version.status.error_code == 0

    answer = client.get("/v1/models/cells/versions/3/metadata").json()
    spec = json_format.ParseDict(answer["model_spec"], model_pb2.ModelSpec())
    assert (spec.name, spec.version.value) == ("cells", 3)
    found = json_format.ParseDict(
        answer["metadata"]["signature_def"], metadata_pb2.SignatureDefMap()
    )
    file = (dynamic_folder / "3" / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(file).meta_graphs[0]
    assert dict(found.signature_def) == dict(graph.signature_def)


def test_encoded_images_get_what_the_signature_gives(client, signatures, pictures, b64):
    files = [pictures[name] for name in ("png", "turned", "one pixel")]
    found = _encoded(client, files, b64)
    expected = signatures["serving_encoded"](
        encoded=tf.constant(files), threshold=tf.constant(-1.0), effort=tf.constant(-1.0)
    )
    assert set(found) == {*expected, "effort"}
    assert found.pop("is_readable") == [True] * 3
    assert found.pop("status") == expected["status"].numpy().tolist() == [0] * 3
    expected = {k: expected[k].numpy() for k in found if k in expected}
    assert compare.compare(expected, _arrays(found), "encoded").mismatches == ()


def test_pixels_get_what_the_signature_gives_in_rows_and_columns(client, signatures):
    images = np.stack([verify._crowded_scene(12, 20, seed=i) for i in range(2)])
    at = {"threshold": tf.constant(-1.0), "effort": tf.constant(0.7)}
    expected = signatures["serving_default"](images=tf.constant(images), **at)
    expected = {k: v.numpy() for k, v in expected.items()}
    rows = [{"images": image.tolist(), "effort": 0.7} for image in images]
    row = client.post(PREDICT, json={"instances": rows}).json()["predictions"]
    column = client.post(
        PREDICT, json={"inputs": {"images": images.tolist(), "effort": 0.7}}
    ).json()["outputs"]
    assert {name: [one[name] for one in row] for name in column} == column
    assert "is_readable" not in column
    assert column["effort"] == [0.7, 0.7]
    assert compare.compare(expected, _arrays(column), "pixels").mismatches == ()


def test_fitted_images_get_what_the_signature_gives(client, signatures, model):
    height, width = model.about()["image_size"]
    inputs = {
        "fitted": np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).round(1),
        "scale": np.array([0.5]),
        "size": np.array([[2 * height, 2 * width]]),
    }
    types = {"fitted": tf.float32, "scale": tf.float32, "size": tf.int32}
    expected = signatures["serving_fitted"](
        threshold=tf.constant(0.0),
        effort=tf.constant(-1.0),
        **{name: tf.constant(x, types[name]) for name, x in inputs.items()},
    )
    body = {
        "signature_name": "serving_fitted",
        "inputs": {**{k: v.tolist() for k, v in inputs.items()}, "threshold": 0.0},
    }
    found = client.post(PREDICT, json=body).json()["outputs"]
    assert found["effort"] == [0.0]
    expected = {k: v.numpy() for k, v in expected.items()}
    assert compare.compare(expected, _arrays(found), "fitted").mismatches == ()
    body["inputs"]["scale"] = [0.0]
    assert client.post(PREDICT, json=body).status_code == 400


def test_unusual_files_are_answered_together_as_alone(client, pictures, b64):
    alone = [_encoded(client, [file], b64) for file in pictures.values()]
    together = _encoded(client, list(pictures.values()), b64)
    assert together["is_readable"] == [True] * len(pictures)
    expected = {k: np.concatenate([_arrays(one)[k] for one in alone]) for k in _arrays(together)}
    assert compare.compare(expected, _arrays(together), "together").mismatches == ()


def test_requests_are_answered_as_the_page_writes_them(client, pictures):
    page = (pathlib.Path(__file__).parents[3] / "docs" / "serving.md").read_text("utf-8")
    rows, columns = re.findall(r"printf '(\{.*\})'", page)
    encoded = base64.b64encode(pictures["png"]).decode()
    answer = client.post(PREDICT, content=rows % encoded).json()
    assert len(answer["predictions"]) == 1 and "boxes" in answer["predictions"][0]
    for effort in (0.1, 0.9):
        found = client.post(PREDICT, content=columns % (encoded, effort)).json()["outputs"]
        assert found["effort"] == [effort]
        assert len(found["macs"]) == len(found["is_hard"]) == 1


def test_efforts_are_those_that_each_image_asks_for(client, pictures, b64):
    efforts = [0.0, 0.35, 1.0]
    found = _encoded(client, [pictures["png"]] * 3, b64, inputs={"effort": efforts})
    assert found["effort"] == efforts
    assert found["is_hard"][::2] == [False, True]
    assert found["macs"][0] < found["macs"][2]
    own = _encoded(client, [pictures["png"]], b64)
    assert own["effort"] == [pytest.approx(0.5, abs=0.01)]
    bounded = _encoded(client, [pictures["png"]], b64, min_effort=0.9)
    assert bounded["effort"] == [0.9]


def test_an_empty_batch_gets_empty_lists(client, signatures):
    body = {"signature_name": "serving_encoded", "inputs": {"encoded": []}}
    found = client.post(PREDICT, json=body).json()["outputs"]
    assert set(found) == {*signatures["serving_encoded"].structured_outputs, "effort"}
    assert not any(found.values())


def test_a_damaged_image_is_refused_by_name(client, damaged, b64):
    for name, (status, reason, content) in damaged.items():
        body = {"signature_name": "serving_encoded", "inputs": {"encoded": [b64(content)]}}
        response = client.post(PREDICT, json=body)
        assert response.status_code == status, name
        assert response.json()["error"].startswith("inputs[0]: "), name
        assert reason in response.json()["error"], name


def test_damaged_images_leave_the_others_of_their_request_as_they_are(
    client, damaged, pictures, b64
):
    good = [pictures["png"], pictures["jpeg"]]
    bad = [content for _, _, content in damaged.values()]
    rows = [{"encoded": b64(file), "effort": 0.5} for file in [good[0], *bad, good[1]]]
    body = {"signature_name": "serving_encoded", "instances": rows}
    answer = client.post(PREDICT, json=body).json()
    assert [one["image"] for one in answer["errors"]] == list(range(1, len(bad) + 1))
    found = answer["predictions"]
    assert [one["is_readable"] for one in found] == [True, *[False] * len(bad), True]
    codes = [code for code, _, _ in damaged.values()]
    assert [one["status"] for one in found[1:-1]] == [2 if x == 413 else 1 for x in codes]
    for one in found[1:-1]:
        assert (one["count"], set(one["labels"]), set(one["scores"])) == (0, {-1}, {0.0})
    alone = _arrays(_encoded(client, good, b64, inputs={"effort": 0.5}))
    kept = _arrays({name: [found[0][name], found[-1][name]] for name in found[0]})
    assert compare.compare(alone, kept, "kept").mismatches == ()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 400),
        ("GET", "/v1/models/", 400),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/models/other/metadata", 404),
        ("GET", "/v1/models/cells/versions/1", 404),
        ("GET", "/v1/models/cells/versions/" + "9" * 5000, 404),
        ("GET", "/v1/models/cells/labels/stable", 400),
        ("GET", "/v1/models/cells/other", 400),
        ("POST", "/v1/models/cells", 400),
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v1/models/cells/versions/4:predict", 404),
        ("POST", "/v1/models/cells:classify", 400),
        ("POST", "/v1/models/cells:regress", 400),
        ("POST", "/v1/models/cells:delete", 400),
        ("DELETE", "/v1/models/cells", 400),
        ("GET", "/etc/passwd", 404),
        ("GET", "/page.js/../../secret", 404),
        ("GET", "/page/samples/7", 404),
        ("GET", "/page/samples/-1", 404),
    ],
)
def test_other_addresses_are_refused_in_json(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert set(response.json()) == {"error"}


def test_too_many_images_and_wrong_efforts_are_refused(client, pictures, b64):
    one = b64(pictures["one pixel"])
    base = {"signature_name": "serving_encoded", "inputs": {"encoded": [one] * 17}}
    response = client.post(PREDICT, json=base)
    assert (response.status_code, "at most 16" in response.json()["error"]) == (413, True)
    base["inputs"] = {"encoded": [one], "effort": 1.5}
    response = client.post(PREDICT, json=base)
    assert (response.status_code, "at most 1" in response.json()["error"]) == (400, True)


def test_pixels_of_another_form_are_refused(client):
    for shape in ((1, 2, 2, 1), (1, 2, 0, 3), (1, 2, 2, 4)):
        response = client.post(PREDICT, json={"inputs": {"images": np.zeros(shape, int).tolist()}})
        assert response.status_code == 400, shape


def test_a_full_queue_is_answered_with_503(client, model, pictures, b64):
    body = {"signature_name": "serving_encoded", "inputs": {"encoded": [b64(pictures["png"])]}}
    held = model.queue.reserve(16)
    try:
        response = client.post(PREDICT, json=body)
    finally:
        for ticket in held:
            model.queue.give_back(ticket)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "too much to do" in response.json()["error"]
    assert client.post(PREDICT, json=body).status_code == 200


def test_the_server_lowers_the_effort_when_answers_would_be_late(client, slo_model, pictures, b64):
    url = "/v1/models/slo:predict"
    assert _encoded(client, [pictures["png"]], b64, url=url)["effort"] == [1.0]
    now = slo_model.queue._clock()
    old = slo_model.queue.reserve(1, arrived=now - 59)
    try:
        efforts = [
            _encoded(client, [pictures["png"]], b64, url=url, **given)["effort"]
            for given in ({}, {"min_effort": 0.4}, {"inputs": {"effort": 0.8}})
        ]
    finally:
        slo_model.queue.give_back(old[0])
    assert efforts == [[0.0], [0.4], [0.8]]


def test_who_would_be_late_with_the_least_effort_is_refused(client, slo_model, pictures, b64):
    controller, slo_model.controller._limit_ms = slo_model.controller, 0.01
    body = {"signature_name": "serving_encoded", "inputs": {"encoded": [b64(pictures["png"])]}}
    url = "/v1/models/slo:predict"
    assert slo_model.is_limit_too_low
    # Alone it is answered all the same: else a server that was slow once would refuse for ever.
    assert client.post(url, json=body).status_code == 200
    held = slo_model.queue.reserve(1)
    try:
        assert client.post(url, json=body).status_code == 503
    finally:
        controller._limit_ms = 60_000
        slo_model.queue.give_back(held[0])
    assert client.post("/v1/models/slo:predict", json=body).status_code == 200


def test_large_slow_and_compressed_bodies_are_refused(model, metrics):
    application = make_application([model], metrics, limits=BodyLimits(1000, 0.2))
    client = TestClient(application)

    async def slow():
        yield b"{"
        await asyncio.sleep(30)

    def chunks():
        for _ in range(20):
            yield b" " * 100

    cases = [
        (413, {"content": b" " * 1001}),
        (413, {"content": chunks()}),
        (413, {"content": b"", "headers": {"Content-Length": "9" * 17}}),
        (400, {"content": b"", "headers": {"Content-Length": "1e3"}}),
        (415, {"content": b"{}", "headers": {"Content-Encoding": "gzip"}}),
        (400, {"content": b" " * 1000}),
    ]
    for status, request in cases:
        response = client.post(PREDICT, **request)
        assert response.status_code == status, request
        assert set(response.json()) == {"error"}


def test_health_and_metrics(client):
    assert client.get("/healthz").json() == {"status": "ok", "models": ["cells", "slo"]}
    client.get("/v1/models/cells")
    text = client.get("/metrics").text
    assert 'tfdet_requests_total{model="cells",code="200"}' in text
    assert 'tfdet_queue_images{model="cells"} 0' in text
    assert 'tfdet_images_total{model="cells",outcome="unreadable_image"}' in text
    assert 'tfdet_batch_time_factor{model="slo"}' in text


def test_the_page_and_its_parts_are_served_and_ask_for_nothing_from_elsewhere(client, samples):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for path in ("/", "/page.js", "/page.css"):
        text = client.get(path).text
        assert "http://" not in text
        assert "https://" not in text
        assert "//" not in text.replace("// ", "")
    assert client.get("/page/samples/1").content == samples[1]
    about = client.get("/page/about").json()
    assert about["samples"] == len(samples)
    assert about["models"][0]["class_names"] == ["a", "b", "c"]


def _mixed_requests(count, pictures, damaged, b64, seed=0):
    """Bodies, nine good ones to a bad one: (body, status, name of the picture)."""
    choose = random.Random(seed)
    names = list(pictures)
    broken = [b"{", b"[1]", b"\xff", json.dumps({"instances": [1]}).encode(), b'{"inputs": {}}']
    for i in range(count):
        if i % 10:
            name = choose.choice(names)
            status, content = 200, pictures[name]
        elif choose.random() < 0.3:
            yield choose.choice(broken), 400, ""
            continue
        else:
            name = ""
            status, _, content = choose.choice(list(damaged.values()))
        instance = {"encoded": b64(content), "effort": 0.5}
        body = {"signature_name": "serving_encoded", "instances": [instance]}
        yield json.dumps(body).encode(), status, name


def _serve_mixed(count, client, pictures, damaged, b64, check):
    alone = {
        name: _arrays(_encoded(client, [file], b64, inputs={"effort": 0.5}))
        for name, file in pictures.items()
    }

    def ask(case):
        body, status, name = case
        response = client.post(PREDICT, content=body)
        while response.status_code == 503:
            response = client.post(PREDICT, content=body)
        assert response.status_code == status, response.text[:300]
        if status != 200:
            assert set(response.json()) == {"error"}
            return
        (found,) = response.json()["predictions"]
        found = _arrays({key: [value] for key, value in found.items()})
        assert compare.compare(alone[name], found, name).mismatches == ()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for i, _ in enumerate(pool.map(ask, _mixed_requests(count, pictures, damaged, b64))):
            check(i)


def test_200_requests_a_tenth_of_them_damaged(client, pictures, damaged, b64):
    _serve_mixed(200, client, pictures, damaged, b64, check=lambda i: None)


@pytest.mark.slow
def test_2000_requests_a_tenth_of_them_damaged_in_flat_memory(client, pictures, damaged, b64):
    peaks = {}

    def check(i):
        peaks[i] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    _serve_mixed(2000, client, pictures, damaged, b64, check)
    assert peaks[1999] - peaks[999] < 50, "megabytes more at the end than in the middle"


def _fuzzed(count, pictures, b64, seed=0):
    """Bodies that were valid before bytes, or values, of them were changed."""
    choose = random.Random(seed)
    small = b64(pictures["one pixel"])
    valid = [
        {"signature_name": "serving_encoded", "inputs": {"encoded": [small], "effort": 0.5}},
        {"signature_name": "serving_encoded", "instances": [{"encoded": small, "effort": 1}]},
        {"inputs": {"images": [[[[1, 2, 3]]]], "threshold": 0.5}, "min_effort": 0.5},
        {"instances": [{"images": [[[1, 2, 3]]]}, {"images": [[[4, 5, 6]]]}]},
    ]
    values = [None, True, -1, 1e400, 10**40, "", "b64", [], {}, [[]], {"b64": "AA=="}, "\ud800"]
    for _ in range(count):
        document = json.loads(json.dumps(choose.choice(valid)))
        if choose.random() < 0.5:
            spots = list(_spots(document))
            for holder, key in choose.sample(spots, min(2, len(spots))):
                holder[key] = choose.choice(values)
            yield json.dumps(document).encode()
            continue
        body = bytearray(json.dumps(document).encode())
        for _ in range(choose.randint(1, 4)):
            at = choose.randrange(len(body))
            change = choose.random()
            if change < 0.5:
                body[at] = choose.randrange(256)
            elif change < 0.75:
                del body[at : at + choose.randint(1, 20)]
            else:
                body[at:at] = choose.choice([b"[", b"{", b'"', b",", b"1e9", b"\\u0000", b"null"])
            if not body:
                break
        yield bytes(body)


def _spots(value):
    """Where a document has values: (dict or list, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _spots(inner)


def _check_fuzzed(client, count, pictures, b64):
    statuses = set()
    for body in _fuzzed(count, pictures, b64):
        response = client.post(PREDICT, content=body)
        statuses.add(response.status_code)
        assert response.status_code in (200, 400, 413), (body, response.text)
        answer = response.json()
        assert set(answer) <= {"error", "predictions", "outputs", "errors"}, body
    assert statuses >= {200, 400}


def test_500_fuzzed_bodies_get_an_answer_and_nothing_else(client, pictures, b64):
    _check_fuzzed(client, 500, pictures, b64)


@pytest.mark.slow
def test_10000_fuzzed_bodies_get_an_answer_and_nothing_else(client, pictures, b64):
    _check_fuzzed(client, 10_000, pictures, b64)
