"""Tests of `tfdet-serve` as a process: signals, and the page in a browser."""

import concurrent.futures
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
import chromium

_START_SECONDS = 600


class _Served:
    """A process of `tfdet-serve` on a port of its own."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfdet.cli.serve", "--port=0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found.group(1))
                return
        raise AssertionError("".join(lines))

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self, number=signal.SIGTERM):
        """The exit code, and what the process had yet to say."""
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=_START_SECONDS)[0]
        return self.process.returncode, rest


def _body(content, b64):
    return json.dumps({"signature_name": "serving_encoded", "inputs": {"encoded": [b64(content)]}})


def test_sigterm_answers_what_was_accepted_and_ends_well(dynamic_folder, pictures, b64):
    # Images wait for a minute for others, so that all are in the queue when the signal comes.
    served = _Served(f"--model=cells={dynamic_folder}", "--max_wait_ms=60000", "--batch_size=8")
    body = _body(pictures["png"], b64)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        path = "/v1/models/cells:predict"
        answers = [pool.submit(served.ask, "POST", path, body) for _ in range(6)]
        while b'tfdet_queue_images{model="cells"} 6' not in served.ask("GET", "/metrics")[1]:
            assert not any(answer.done() for answer in answers)
            time.sleep(0.05)
        code, rest = served.stop()
        for answer in answers:
            status, content = answer.result(10)
            assert status == 200
            assert json.loads(content)["outputs"]["is_readable"] == [True]
    assert code == 0
    assert "all that was accepted was answered" in rest
    with pytest.raises(OSError):
        served.ask("GET", "/healthz")


@pytest.mark.skipif(not chromium.find(), reason="Chromium is not installed")
def test_the_page_shows_boxes_and_follows_the_effort(dynamic_folder, pictures, tmp_path):
    image = tmp_path / "dropped.jpg"
    image.write_bytes(pictures["turned"])
    served = _Served(f"--model=cells={dynamic_folder}")
    browser = chromium.Browser(chromium.find(), tmp_path / "profile")
    try:
        _use_page(browser, f"http://127.0.0.1:{served.port}/", str(image))
    finally:
        browser.close()
        served.stop()


def _use_page(browser, url, image):
    """Chooses a sample, moves the effort, then gives a file of its own."""
    browser.send("Page.navigate", url=url)
    state = "document.body?.dataset.state"
    facts = "document.getElementById('facts').innerText"
    browser.wait_for(state, lambda found: found == "ready")
    browser.run("document.querySelectorAll('#samples button')[1].click()")
    browser.wait_for(f"{state} === 'done' && {facts}", lambda found: "256 × 256" in str(found))
    costs = {}
    for effort, route in ((0, "first detector"), (1, "both detectors")):
        browser.run(
            f"(() => {{ const range = document.getElementById('effort'); range.value = {effort};"
            "range.dispatchEvent(new Event('input')); })()"
        )
        text = browser.wait_for(
            facts, lambda found, e=effort: f"Effort it got\n{e}.00" in found.replace("\n\n", "\n")
        )
        assert route in text
        costs[effort] = re.search(r"Cost\s+([\d.]+)", text).group(1)
    assert float(costs[0]) < float(costs[1])
    browser.run(
        "(() => { const range = document.getElementById('score'); range.value = 0;"
        "range.dispatchEvent(new Event('input')); })()"
    )
    assert browser.run("document.querySelectorAll('#found tbody tr').length") == 50
    # The photo is 70 x 40 as stored, and its EXIF turns it.
    node = browser.send("DOM.getDocument")["root"]["nodeId"]
    field = browser.send("DOM.querySelector", nodeId=node, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=field, files=[image])
    browser.wait_for(f"{state} === 'done' && {facts}", lambda found: "40 × 70" in str(found))
    for width, height in ((1280, 800), (390, 844)):
        assert browser.screenshot(width, height).startswith(b"\x89PNG")
        # Nothing lies beside the screen.
        wide = browser.run("document.documentElement.scrollWidth")
        assert wide <= browser.run("window.innerWidth") <= width
    assert browser.problems() == []
    assert {address.split("/")[2] for address in browser.requested() if "//" in address} == {
        url.split("/")[2]
    }
