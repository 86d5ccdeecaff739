"""Counters, gauges and histograms in the text format of Prometheus."""

import bisect
import threading
from collections.abc import Callable, Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32)
EFFORTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What a server counts; may be used from any thread.

    Example:
        metrics = Metrics()
        metrics.describe("requests_total", "counter", "Requests that were answered.")
        metrics.add("requests_total", 1, model="cells", code="200")
        metrics.text()
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._described: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, dict[_Labels, float]] = {}
        self._buckets: dict[str, Sequence[float]] = {}
        self._observed: dict[str, dict[_Labels, list[float]]] = {}
        self._read: dict[str, dict[_Labels, Callable[[], float]]] = {}

    def describe(self, name: str, kind: str, text: str, buckets: Sequence[float] = ()) -> None:
        """Declares a metric; a histogram with the upper bounds of its buckets."""
        self._described[name] = (kind, text)
        if kind == "histogram":
            self._buckets[name] = buckets

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Raises a counter."""
        with self._lock:
            values = self._counts.setdefault(name, {})
            key = tuple(labels.items())
            values[key] = values.get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Adds a value to a histogram."""
        bounds = self._buckets[name]
        with self._lock:
            observed = self._observed.setdefault(name, {})
            # Counts of the buckets, of what is above them all, and the sum.
            row = observed.setdefault(tuple(labels.items()), [0.0] * (len(bounds) + 2))
            row[bisect.bisect_left(bounds, value)] += 1
            row[-1] += value

    def read(self, name: str, value: Callable[[], float], **labels: str) -> None:
        """Has a gauge read whenever the metrics are asked for."""
        self._read.setdefault(name, {})[tuple(labels.items())] = value

    def text(self) -> str:
        """All of it, a line each."""
        lines: list[str] = []
        with self._lock:
            for name, (kind, text) in self._described.items():
                lines += [f"# HELP tfdet_{name} {text}", f"# TYPE tfdet_{name} {kind}"]
                for labels, amount in self._counts.get(name, {}).items():
                    lines.append(_line(name, labels, amount))
                for labels, value in self._read.get(name, {}).items():
                    lines.append(_line(name, labels, value()))
                for labels, row in self._observed.get(name, {}).items():
                    lines += _histogram(name, labels, self._buckets[name], row)
        return "\n".join(lines) + "\n"


def _histogram(
    name: str, labels: _Labels, bounds: Sequence[float], row: Sequence[float]
) -> list[str]:
    lines, total = [], 0.0
    for bound, count in zip([*map(str, bounds), "+Inf"], row[:-1], strict=True):
        total += count
        lines.append(_line(f"{name}_bucket", (*labels, ("le", bound)), total))
    return [*lines, _line(f"{name}_sum", labels, row[-1]), _line(f"{name}_count", labels, total)]


def _line(name: str, labels: _Labels, value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"tfdet_{name}{{{inner}}} {value:.10g}" if inner else f"tfdet_{name} {value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
