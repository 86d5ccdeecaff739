"""Medians of repeated runs, and what machine they were taken on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import tensorflow as tf

Name = TypeVar("Name", bound=Hashable)


def paired(
    runs: Mapping[Name, Callable[[], object]], repeats: int, pause: float = 0.0
) -> dict[Name, list[float]]:
    """Seconds of each run in every round, taken in turn: A B C A B C ...

    A machine whose speed drifts slows all of them alike, so that ratios within one round hold.

    Args:
        runs: a callable per name; its result is waited for where it is made of tensors.
        repeats: counted rounds; two more warm up.
        pause: seconds before each run, in which threads of the one before it come to rest.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    for round_number in range(repeats + 2):
        for name, run in runs.items():
            time.sleep(pause)
            start = time.perf_counter()
            tf.nest.map_structure(lambda x: x.numpy() if tf.is_tensor(x) else x, run())
            if round_number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def interleaved(runs: Mapping[Name, Callable[[], object]], repeats: int) -> dict[Name, float]:
    """Median seconds of each run of `paired`."""
    seconds = paired(runs, repeats)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """One line: processor, cores, TensorFlow."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, TensorFlow {tf.__version__}"
