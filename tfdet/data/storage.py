"""Files on disk and, through TensorFlow, elsewhere: gs://, s3:// and what else it has."""

import errno
import glob
import os
import re
from typing import BinaryIO

import tensorflow as tf

from tfdet import documents, limits
from tfdet.data import paths

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def is_remote(path: str) -> bool:
    """Whether a path is one that TensorFlow alone can open."""
    return _SCHEME.match(path) is not None


def absolute(path: str) -> str:
    """The path without links, from the root."""
    return path if is_remote(path) else os.path.realpath(path)


def matching(pattern: str) -> list[str]:
    """Paths of the files that match a pattern, in order."""
    if not is_remote(pattern):
        return sorted(glob.glob(pattern))
    try:
        return sorted(tf.io.gfile.glob(pattern))
    except tf.errors.NotFoundError:
        return []
    except tf.errors.OpError as error:
        raise _as_os_error(error, pattern) from error


def is_file(path: str) -> bool:
    """Whether there is a file of that name."""
    if not is_remote(path):
        return os.path.isfile(path)
    try:
        return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)
    except tf.errors.OpError as error:
        raise _as_os_error(error, path) from error


def read_text(path: str, what: str) -> str:
    """The contents of a text file, as `paths.read_text` gives them."""
    if not is_remote(path):
        return paths.read_text(path, what)
    size, _ = stamp(path)
    if size > limits.MAX_TEXT_BYTES:
        raise documents.too_large(path, what, limits.MAX_TEXT_BYTES)
    with open_to_read(path) as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise documents.not_text(path, what) from None


def stamp(path: str) -> tuple[int, int]:
    """Bytes of a file, and when it was changed, in nanoseconds."""
    if not is_remote(path):
        facts = os.stat(path)
        return facts.st_size, facts.st_mtime_ns
    try:
        facts = tf.io.gfile.stat(path)
    except tf.errors.OpError as error:
        raise _as_os_error(error, path) from error
    return facts.length, facts.mtime_nsec


def open_to_read(path: str) -> BinaryIO:
    """A file of bytes that can be read and sought in; errors are those of Python's own files."""
    if not is_remote(path):
        return open(path, "rb")
    return _RemoteFile(path)


class _RemoteFile:
    """What is needed of a file, over TensorFlow's."""

    def __init__(self, path: str):
        self._path = path
        self._file = tf.io.gfile.GFile(path, "rb")

    def __enter__(self) -> "_RemoteFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except tf.errors.OpError as error:
            raise _as_os_error(error, self._path) from error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        try:
            self._file.seek(offset, whence)
        except tf.errors.OpError as error:
            raise _as_os_error(error, self._path) from error

    def tell(self) -> int:
        return self._file.tell()


def _as_os_error(error: tf.errors.OpError, path: str) -> OSError:
    is_absent = isinstance(error, tf.errors.NotFoundError)
    code = errno.ENOENT if is_absent else errno.EIO
    words = " ".join(error.message.split())
    return OSError(code, os.strerror(code) if is_absent else words or os.strerror(code), path)
