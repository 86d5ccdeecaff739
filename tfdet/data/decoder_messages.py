"""What decoders write to standard error by themselves: libjpeg, of damage that it passes over."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def caught() -> Iterator[list[str]]:
    """Within the block native code writes to nowhere; its lines are in the list afterwards.

    It is the standard error of the whole process that is caught: keep the block short, and report
    progress outside of it.
    """
    lines: list[str] = []
    try:
        kept = os.dup(2)
    except OSError:  # closed by whoever started the process
        yield lines
        return
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 2)
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        lines += file.read().decode("utf-8", "replace").splitlines()
