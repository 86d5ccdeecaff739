"""Bodies of requests, read within limits of size, time and memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from tfdet.serving.server.refusal import Refusal, invalid

_MOST_DIGITS = 18


class BodyReader:
    """Reads bodies; all that are held at a time share a limit.

    For one thread: that of the event loop.

    Args:
        most_bytes: of a body.
        most_held: bytes of all bodies that are read and not let go of.
        seconds: that a client may take to send its body.
    """

    def __init__(self, most_bytes: int, most_held: int, seconds: float):
        self._most_bytes = most_bytes
        self._most_held = most_held
        self._seconds = seconds
        self._held = 0

    async def read(self, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> bytes:
        """The body, whose memory counts until `let_go`.

        Raises:
            Refusal: it is too large, too slow, compressed, or there is no room for it.
        """
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "send the body without Content-Encoding", "encoded_body")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > _MOST_DIGITS:
            raise invalid("Content-Length is not a number")
        self._check(int(length), int(length))
        parts: list[bytes] = []
        try:
            await asyncio.wait_for(self._collect(chunks, parts), self._seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two kinds up to Python 3.10
            self._held -= sum(map(len, parts))
            sentence = f"the body did not come within {self._seconds:g} seconds"
            raise Refusal(408, sentence, "slow_body") from None
        except BaseException:  # also of a client that went away
            self._held -= sum(map(len, parts))
            raise
        return b"".join(parts)

    async def _collect(self, chunks: AsyncIterator[bytes], parts: list[bytes]) -> None:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            self._check(size, len(chunk))
            parts.append(chunk)
            self._held += len(chunk)

    def let_go(self, body: bytes) -> None:
        """The body is no longer in memory."""
        self._held -= len(body)

    def _check(self, size: int, more: int) -> None:
        if size > self._most_bytes:
            sentence = f"the body must have at most {self._most_bytes} bytes"
            raise Refusal(413, sentence, "large_body")
        if self._held + more > self._most_held:
            raise Refusal(503, "too many requests are being read; try again", "busy")
