"""A server under load: latencies, answers in time, effort and AP at fixed efforts and with a limit.

    python -m benchmarks.serving_load --model=runs/dynamic/saved_model --data=shapes:val \\
        --slo_ms=150 --json_out=load.json --figure_out=load.png

Requests of one image each come as a Poisson process, whether or not earlier ones were answered
(open loop), over loopback, to a `tfdet-serve` of its own for each mode: effort 1, effort 0, and
--slo_ms. Rates are multiples of the capacity at effort 1, which is measured first with as many
clients as the queue holds. Client and server share the machine. Prints a Markdown table.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import timing
from tfdet.data import sources
from tfdet.evaluation.coco import CocoEvaluator
from tfdet.serving.driver import SavedModelDriver

LOADS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.5, 1.75, 2.0)
_PATH = "/v1/models/m:predict"
_CONNECTIONS = 512
_AP_RANGE = 8  # of the plot


@dataclasses.dataclass
class Answer:
    """What became of a request: which image, the status (0 for none), when, and the body."""

    image: int
    status: int
    seconds: float
    content: bytes


class Client:
    """Sends requests over connections that are kept.

    Args:
        port: of the server on this machine.
        bodies: a request for each image.
    """

    def __init__(self, port: int, bodies: Sequence[bytes]):
        self._port = port
        head = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        self._requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._places = asyncio.Semaphore(_CONNECTIONS)

    async def ask(self, image: int, due: float) -> Answer:
        """The answer to an image; its time begins when it was due, whatever came between."""
        async with self._places:
            try:
                status, content = await self._exchange(self._requests[image])
            except (OSError, asyncio.IncompleteReadError):
                status, content = 0, b""
        return Answer(image, status, time.perf_counter() - due, content)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        while self._free:
            try:
                return await self._over(*self._free.pop(), request)
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                # The server closes what is idle for long; the next connection may be younger.
        return await self._over(*await asyncio.open_connection("127.0.0.1", self._port), request)

    async def _over(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bytes]:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(re.search(r"content-length: (\d+)", head)[1])
        content = await reader.readexactly(length)
        self._free.append((reader, writer))
        return int(head.split()[1]), content

    async def open_loop(self, rate: float, seconds: float, seed: int) -> list[Answer]:
        """Answers to requests that come `rate` times a second on average."""
        random = np.random.default_rng(seed)
        times = np.cumsum(random.exponential(1 / rate, max(1, int(rate * seconds))))
        images = random.permutation(len(times)) % len(self._requests)
        start, tasks = time.perf_counter(), []
        for at, image in zip(times, images, strict=True):
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask(int(image), start + at)))
        return list(await asyncio.gather(*tasks))

    async def closed_loop(self, clients: int, seconds: float) -> float:
        """Answers per second to `clients` that each ask again when they have an answer."""
        until = time.perf_counter() + seconds

        async def work(number: int) -> int:
            count = 0
            while time.perf_counter() < until:
                image = (number * 31 + count) % len(self._requests)
                answer = await self.ask(image, time.perf_counter())
                count += answer.status == 200
            return count

        return sum(await asyncio.gather(*map(work, range(clients)))) / seconds


@contextlib.contextmanager
def server(model: str, *flags: str) -> Iterator[int]:
    """The port of a `tfdet-serve` that lives as long as the block."""
    command = [sys.executable, "-m", "tfdet.cli.serve", f"--model=m={model}", "--port=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        found = next((m for line in lines if (m := re.search(r"serving at .*:(\d+);", line))), None)
        if not found:
            raise SystemExit("tfdet-serve did not start")
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _row(answers: Sequence[Answer], seconds: float, slo_ms: float, data: Any) -> dict[str, float]:
    good = [one for one in answers if one.status == 200]
    times = 1e3 * np.array([one.seconds for one in good] or [np.nan])
    found = [json.loads(one.content)["outputs"] for one in good]
    return {
        "sent": len(answers),
        "answered": len(good),
        "refused": sum(one.status == 503 for one in answers),
        **{f"p{q}_ms": float(np.percentile(times, q)) for q in (50, 95, 99)},
        "in_time_per_s": float((times <= slo_ms).sum() / seconds),
        "effort": float(np.mean([one["effort"][0] for one in found] or [np.nan])),
        "AP": _average_precision(data, good, found),
    }


def _average_precision(data: Any, answers: Sequence[Answer], found: Sequence[dict]) -> float:
    """AP of the last answer to each image; images without one are left out.

    The model's labels are those of the data set.
    """
    last = {answer.image: outputs for answer, outputs in zip(answers, found, strict=True)}
    if not last:
        return float("nan")
    images = sorted(last)
    evaluator = CocoEvaluator(data.select(images))
    for i, image in enumerate(images):
        evaluator.add([i], {name: np.asarray(values) for name, values in last[image].items()})
    return evaluator.result()["AP"]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rows of all modes and loads, and what they were measured on."""
    data = sources.open_dataset(options.data)
    names = SavedModelDriver(options.model).class_names
    if names != data.class_names:
        raise SystemExit(f"the model has the classes {names}, the data {data.class_names}")
    bodies = [_body(data.encoded(i)) for i in range(min(len(data), options.images))]
    modes = {
        "effort 1": ["--effort=1"],
        "effort 0": ["--effort=0"],
        f"limit {options.slo_ms:g} ms": [f"--slo_ms={options.slo_ms}"],
    }
    capacities = {}
    for mode in ("effort 1", "effort 0"):
        with server(options.model, *modes[mode]) as port:
            client = Client(port, bodies)
            capacities[mode] = asyncio.run(client.closed_loop(options.clients, options.seconds))
            print(f"capacity at {mode}: {capacities[mode]:.1f} images/s", flush=True)
    rows = []
    print("| mode | load | images/s | p50, p95, p99 ms | in time/s | refused | effort | AP |")
    print("|---|---|---|---|---|---|---|---|")
    for mode, flags in modes.items():
        with server(options.model, *flags) as port:
            for seed, load in enumerate(options.loads):
                rate = load * capacities["effort 1"]
                client = Client(port, bodies)
                answers = asyncio.run(client.open_loop(rate, options.seconds, seed))
                row = _row(answers, options.seconds, options.slo_ms, data)
                rows.append({"mode": mode, "load": load, "rate": rate, **row})
                print(_line(rows[-1]), flush=True)
    return {
        "machine": timing.machine(),
        "model": str(options.model),
        "data": options.data,
        "slo_ms": options.slo_ms,
        "seconds": options.seconds,
        "capacities": capacities,
        "rows": rows,
    }


def _body(encoded: bytes) -> bytes:
    inputs = {"encoded": [{"b64": base64.b64encode(encoded).decode()}]}
    return json.dumps({"signature_name": "serving_encoded", "inputs": inputs}).encode()


def _line(row: dict[str, Any]) -> str:
    times = ", ".join(f"{row[f'p{q}_ms']:.0f}" for q in (50, 95, 99))
    return (
        f"| {row['mode']} | {row['load']:g} | {row['rate']:.1f} | {times} | "
        f"{row['in_time_per_s']:.1f} | {row['refused']} of {row['sent']} | {row['effort']:.2f} | "
        f"{100 * row['AP']:.1f} |"
    )


def draw(measured: dict[str, Any], path: str) -> None:
    """Latency, answers in time, effort and AP against the load, a line per mode."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(16, 4), layout="constrained")
    columns = {
        "95th percentile, ms": ("p95_ms", 1),
        "answers in time per second": ("in_time_per_s", 1),
        "mean effort": ("effort", 1),
        "AP": ("AP", 100),
    }
    for axis, (title, (column, scale)) in zip(axes, columns.items(), strict=True):
        for mode in dict.fromkeys(row["mode"] for row in measured["rows"]):
            rows = [row for row in measured["rows"] if row["mode"] == mode]
            values = [scale * row[column] for row in rows]
            axis.plot([row["load"] for row in rows], values, "o-", label=mode)
        axis.set(title=title, xlabel="load, in capacities at effort 1")
        axis.grid(alpha=0.3)
    # Noise of a few tenths shall not look like a slope.
    center = sum(axes[3].get_ylim()) / 2
    axes[3].set(ylim=(center - _AP_RANGE / 2, center + _AP_RANGE / 2))
    axes[0].axhline(measured["slo_ms"], color="black", linestyle=":")
    axes[0].set(ylim=(0, 4 * measured["slo_ms"]))
    least = measured["capacities"]["effort 0"] / measured["capacities"]["effort 1"]
    for axis in axes:
        axis.axvline(least, color="grey", linestyle=":")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="export of a calibrated dynamic detector")
    parser.add_argument("--data", default="shapes:val", help="images and their boxes, for AP")
    parser.add_argument("--images", type=int, default=200, help="how many of them are sent")
    parser.add_argument("--slo_ms", type=float, default=150.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--clients", type=int, default=32, help="that measure the capacity")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--json_out", type=pathlib.Path)
    parser.add_argument("--figure_out")
    options = parser.parse_args()
    measured = measure(options)
    if options.json_out:
        options.json_out.write_text(json.dumps(measured, indent=1) + "\n")
    if options.figure_out:
        draw(measured, options.figure_out)


if __name__ == "__main__":
    main()
