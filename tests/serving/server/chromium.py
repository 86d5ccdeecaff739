"""A headless Chromium that tests drive over a pipe, by its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable

_WAIT_SECONDS = 120
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """The program, if it is installed."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser with a profile of its own.

    Args:
        program: of Chromium.
        folder: for its profile.
    """

    def __init__(self, program: str, folder: object):
        # Chromium reads commands from file 3 and writes answers to file 4, each ended by a zero.
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        keep = (os.dup(commands), os.dup(answers))  # no longer 3 or 4 themselves

        def rename() -> None:
            os.dup2(keep[0], 3)
            os.dup2(keep[1], 4)

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--disable-background-networking", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [program, *options, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=rename,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for file in (commands, answers, *keep):
            os.close(file)
        self._buffer, self._number, self._session = b"", 0, None
        self.messages: list[dict] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: object) -> dict:
        """The result of a command."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            self.messages.append(message)
        assert "error" not in message, message["error"]
        return message["result"]

    def _receive(self) -> dict:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "the browser ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression; promises are waited for."""
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script: str, is_wanted: Callable[[object], bool] = bool) -> object:
        """The value of an expression, once it is as wanted."""
        until = time.monotonic() + _WAIT_SECONDS
        while not is_wanted(value := self.run(script)):
            assert time.monotonic() < until, f"{script} is still {value}"
            time.sleep(0.05)
        return value

    def problems(self) -> list[str]:
        """What the page wrote as errors, and what failed in its scripts."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        self.run("0")
        return [json.dumps(m["params"])[:500] for m in self.messages if m.get("method") in kinds]

    def requested(self) -> list[str]:
        """Addresses that the page asked for."""
        return [
            message["params"]["request"]["url"]
            for message in self.messages
            if message.get("method") == "Network.requestWillBeSent"
        ]

    def screenshot(self, width: int, height: int) -> bytes:
        """A PNG of the page in a window of a size."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        time.sleep(0.3)
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
