"""The server as a Ray Serve application: what replicas answer, and that none of it is lost."""

import asyncio
import base64
import concurrent.futures
import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from tfdet.data import sources
from tfdet.errors import UserError
from tfdet.serving import ray_app

pytest.importorskip("starlette", reason="the extra [serve] is not installed")


def test_words_of_the_command_are_options():
    words = {"folder": "7", "name": "1", "max_replicas": "3", "slo_ms": "150", "effort": "null"}
    options = ray_app.RayOptions.parse(words)
    assert (options.folder, options.name) == ("7", "1")  # text, whatever it looks like
    assert (options.max_replicas, options.slo_ms, options.effort) == (3, 150.0, None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "lacks the key 'folder'"),
        ({"folder": "x", "max_replica": "2"}, "did you mean 'max_replicas'"),
        ({"folder": "x", "max_replicas": "many"}, "max_replicas must be a whole number"),
        ({"folder": "x", "min_replicas": "3", "max_replicas": "2"}, "got 3 and 2"),
        ({"folder": "x", "effort": "0.5", "slo_ms": "9"}, "give effort or slo_ms"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence):
    with pytest.raises(UserError, match=sentence):
        ray_app.RayOptions.parse(words)


def _request(method, path, body=b""):
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [[b"content-length", str(len(body)).encode()]],
        "app": object(),  # of the proxy, which cannot be sent
    }
    return ray_app.portable_scope(scope), body


@pytest.fixture(scope="module")
def picture():
    return sources.open_dataset("shapes:val").encoded(0)


@pytest.fixture(scope="module")
def body(picture):
    inputs = {"encoded": [{"b64": base64.b64encode(picture).decode()}]}
    return json.dumps({"signature_name": "serving_encoded", "inputs": inputs}).encode()


def test_a_replica_answers_as_the_server_does(exported, body):
    replica = ray_app.Detector(ray_app.RayOptions(str(exported[0]), "cells", batch_size=2))

    async def ask():
        good = replica.answer(*_request("POST", "/v1/models/cells:predict", body))
        bad = replica.answer(*_request("POST", "/v1/models/cells:predict", b"{"))
        page = replica.answer(*_request("GET", "/"))
        return await asyncio.gather(good, bad, page)

    good, bad, page = asyncio.run(ask())
    assert good[0] == 200
    outputs = json.loads(good[2])["outputs"]
    assert (outputs["status"], outputs["count"]) == ([0], [100])
    assert "server-timing" in dict(good[1])
    assert bad[0] == 400 and "error" in json.loads(bad[2])
    assert page[0] == 200 and b"<html" in page[2].lower()


@pytest.fixture(scope="module")
def address(exported, tmp_path_factory):
    """Of an application with two replicas on this machine."""
    pytest.importorskip("ray", reason="Ray is not installed; it is the extra [ray] of tfdet")
    serve = pytest.importorskip("ray.serve", reason="needs ray[serve]")
    import ray

    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 8199})
        words = {"folder": str(exported[0]), "name": "cells", "batch_size": "2"}
        replicas = {"min_replicas": "2", "max_replicas": "2"}
        serve.run(ray_app.application({**words, **replicas}))
        yield "http://127.0.0.1:8199"
    finally:
        serve.shutdown()
        ray.shutdown()


def _ask(address, body):
    request = urllib.request.Request(f"{address}/v1/models/cells:predict", body)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, {}


def _replicas():
    """Names of the living replicas of the detector."""
    import ray

    names = (x["name"] for x in ray.util.list_named_actors(all_namespaces=True))
    return sorted(name for name in names if "#Detector#" in name)


@pytest.mark.slow
def test_no_accepted_request_is_lost_when_a_replica_is_killed_under_load(address, body):
    import ray

    status, alone = _ask(address, body)
    assert status == 200
    before = _replicas()
    assert len(before) == 2
    killed = threading.Event()

    def ask_until_later(worker):
        """Asks on until a while after the kill."""
        found, end = [], None
        while end is None or time.monotonic() < end:
            found.append(_ask(address, body))
            if killed.is_set() and end is None:
                end = time.monotonic() + 5
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        work = [pool.submit(ask_until_later, i) for i in range(8)]
        time.sleep(3)
        ray.kill(ray.get_actor(before[0], namespace="serve"), no_restart=True)
        killed.set()
        answers = [one for future in work for one in future.result()]
    assert len(answers) > 16
    assert {status for status, _ in answers} == {200}
    for _, answer in answers:
        assert answer["outputs"]["count"] == alone["outputs"]["count"]
    assert before[0] not in _replicas()
    for _ in range(600):  # another one takes its place
        if len(_replicas()) == 2:
            break
        time.sleep(0.5)
    assert len(_replicas()) == 2
