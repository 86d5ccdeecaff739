"""A process that keeps its memory asks the system for none when a tensor comes again."""

import os
import platform
import subprocess
import sys

import pytest

from tfdet import memory

SCRIPT = """
import resource, sys
from tfdet import memory
kept = memory.keep_freed_memory()
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24, np.float32)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""
needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="this system has no glibc"
)
CHOICES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def run(**variables: str) -> list[str]:
    mine = {key: value for key, value in os.environ.items() if not key.startswith(CHOICES)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=mine | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@needs_glibc
def test_memory_comes_from_the_system_once():
    kept, faults = run()
    assert kept == "True"
    assert int(faults) < 100


@needs_glibc
def test_a_users_choice_stays():
    kept, _ = run(MALLOC_ARENA_MAX="2")
    assert kept == "False"


class ResourceExhaustedError(Exception):
    """As TensorFlow calls it, which is not needed here."""


def test_errors_that_mean_too_little_memory_are_known():
    assert memory.is_exhausted(MemoryError())
    assert memory.is_exhausted(ResourceExhaustedError("OOM when allocating tensor"))
    assert not memory.is_exhausted(ResourceExhaustedError("No space left on device"))
    assert not memory.is_exhausted(ValueError("OOM"))


@pytest.mark.parametrize(
    ("limit", "tried", "fits", "attempts"),
    [(20, 64, 16, [32, 16]), (20, 30, 15, [15]), (0, 8, 0, [4, 2, 1]), (5, 1, 0, [])],
)
def test_what_fits_is_found_by_halving(limit, tried, fits, attempts):
    seen = []

    def attempt(size):
        seen.append(size)
        if size > limit:
            raise MemoryError

    assert memory.largest_that_fits(attempt, tried) == fits
    assert seen == attempts


def test_other_errors_are_not_taken_for_too_little_memory():
    with pytest.raises(ZeroDivisionError):
        memory.largest_that_fits(lambda size: 1 // 0, 8)
