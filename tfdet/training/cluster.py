"""The workers that TF_CONFIG lists: read, and waited for before TensorFlow waits in silence."""

import dataclasses
import errno
import json
import socket
import time
from collections.abc import Callable
from typing import Any

from tfdet.errors import UserError

_FIRST_SECONDS, _SAY_SECONDS = 1.0, 10.0
_TRY_SECONDS, _PAUSE_SECONDS = 2.0, 0.5
_WANTED = (
    'expected TF_CONFIG=\'{"cluster": {"worker": ["host:port", ...]}, '
    '"task": {"type": "worker", "index": 0}}\' in the environment of every worker'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where all workers are.

    Attributes:
        workers: (host, port) of each.
        index: which of them this process is.
    """

    workers: tuple[tuple[str, int], ...]
    index: int


def read(text: str) -> Cluster:
    """The cluster that the text of TF_CONFIG describes."""
    try:
        config = json.loads(text) if text else {}
        jobs, task = config["cluster"], config["task"]
        addresses, index = jobs["worker"], task["index"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"strategy multi_worker has no valid cluster; {_WANTED}") from None
    if set(jobs) != {"worker"} or task.get("type", "worker") != "worker":
        raise UserError(f"TF_CONFIG may have workers only, the first of which is chief; {_WANTED}")
    if not isinstance(addresses, list) or not addresses:
        raise UserError(f"the workers in TF_CONFIG must be a list, got {addresses!r}; {_WANTED}")
    if type(index) is not int or not 0 <= index < len(addresses):
        raise UserError(
            f"task index {index!r} is not one of the {len(addresses)} workers; {_WANTED}"
        )
    workers = tuple(_address(address) for address in addresses)
    if len(set(workers)) != len(workers):
        raise UserError(f"TF_CONFIG has an address twice: {', '.join(addresses)}; {_WANTED}")
    return Cluster(workers, index)


def wait_for_all(
    cluster: Cluster, seconds: float, say: Callable[[str], None] = lambda text: None
) -> None:
    """Returns once every worker can be reached, each of which must be in this function.

    Args:
        cluster: of this process.
        seconds: after which it is an error.
        say: called now and then with whom the process waits for.
    """
    end = time.monotonic() + seconds
    reasons = {w: "" for i, w in enumerate(cluster.workers) if i != cluster.index}
    say_at = time.monotonic() + _FIRST_SECONDS
    with _listening(cluster.workers[cluster.index][1]):
        while True:
            found = {worker: _why_not(worker) for worker in reasons}
            reasons = {worker: reason for worker, reason in found.items() if reason}
            if not reasons:
                return
            left = end - time.monotonic()
            missing = ", ".join(f"{host}:{port} ({r})" for (host, port), r in reasons.items())
            if left <= 0:
                raise UserError(
                    f"no answer within {seconds:g} s from {missing}; start the same command there, "
                    "or see to the addresses in TF_CONFIG. --connect_seconds is how long to wait"
                )
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + _SAY_SECONDS
                say(f"waiting for {missing}; {left:.0f} s left")
            time.sleep(min(_PAUSE_SECONDS, left))


def _listening(port: int) -> socket.socket:
    """What the others reach until TensorFlow listens there; connections need not be accepted."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=128)
    except OSError as error:
        reason = "is used by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(
            f"port {port}, this worker's own in TF_CONFIG, {reason}; choose another one"
        ) from None


def _why_not(worker: tuple[str, int]) -> str:
    """Why a worker cannot be reached; "" if it can."""
    try:
        socket.create_connection(worker, timeout=_TRY_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _address(text: Any) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise UserError(f"{text!r} in TF_CONFIG is no address such as host:2222; {_WANTED}")
    return host.removeprefix("[").removesuffix("]"), int(port)
