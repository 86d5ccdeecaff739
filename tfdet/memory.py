"""How a process asks the system for memory, and what it does when there is not enough."""

import ctypes
import os
import sys
from collections.abc import Callable

# Of mallopt in glibc's malloc.h: which blocks come from the system one by one, how much may lie
# unused at the end, and how many threads have a place of their own, which is given back when empty.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
_LARGE = 2**30
_USERS_CHOICE = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Has the C library keep what TensorFlow frees on a CPU, for the next step.

    glibc gives each large tensor back to the system at once, which has to clear its pages when the
    next step asks for the same memory: up to a sixth of the time of a training. To be called before
    TensorFlow starts its threads. A process holds its peak of memory until it ends.

    Returns:
        Whether it was done: not without glibc, nor where a user's variables (`MALLOC_...`,
        `GLIBC_TUNABLES`, `LD_PRELOAD`) choose an allocator or its settings.
    """
    if sys.platform != "linux" or any(name.startswith(_USERS_CHOICE) for name in os.environ):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = {_MMAP_THRESHOLD: _LARGE, _TRIM_THRESHOLD: 2 * _LARGE - 1, _ARENA_MAX: 1}
    done = [libc.mallopt(key, value) for key, value in settings.items()]
    return all(done)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error means that the memory of the host or a device did not suffice."""
    if isinstance(error, MemoryError):
        return True
    # Of TensorFlow, which need not be there; a full disk has the same name there.
    name, text = type(error).__name__, str(error)
    return name == "ResourceExhaustedError" and ("OOM" in text or "memory" in text.lower())


def largest_that_fits(attempt: Callable[[int], object], tried: int) -> int:
    """The first of `tried` / 2, / 4, ... with which `attempt` has enough memory; 0: not even 1."""
    size = tried // 2
    while size >= 1:
        try:
            attempt(size)
        except Exception as error:
            if not is_exhausted(error):
                raise
            size //= 2
        else:
            return size
    return 0
