"""A process that keeps its memory asks the system for none when a tensor comes again."""

import os
import platform
import subprocess
import sys

import pytest

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
