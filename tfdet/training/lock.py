"""One process at a time in a training folder."""

import contextlib
import pathlib
from collections.abc import Iterator

from tfdet.errors import UserError


@contextlib.contextmanager
def holding(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from training in `folder` within the block.

    The system lets go of the lock when the process ends, however it ends, so that a killed run
    leaves nothing behind that would stop the next.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training in {folder}; wait for it, or choose another folder"
            ) from None
        yield
