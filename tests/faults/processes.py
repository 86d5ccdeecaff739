"""Commands in processes of their own, to be stopped, killed, or kept from writing.

They are forked from a process that has imported what commands import and has computed nothing:
`python -m tfdet.cli.train` takes five seconds to come as far. What happens while Python starts and
ends is not the same; a test of that starts Python.
"""

import importlib
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.preloaded"])


class Process:
    """A command that runs.

    Args:
        argv: its words, `tfdet-train` the first.
        folder: where it runs.
        most: bytes that a file may get.
        environment: what differs.
    """

    def __init__(
        self,
        argv: list[str] | tuple[str, ...],
        folder: str | pathlib.Path,
        most: int | None = None,
        environment: dict[str, str] | None = None,
    ):
        self._output = tempfile.TemporaryDirectory(prefix="tfdet-process-")
        for name in ("printed", "errors"):
            pathlib.Path(self._output.name, name).touch()
        arguments = list(argv), str(folder), most, environment or {}, self._output.name
        self._process = _CONTEXT.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def wait(self, seconds: float) -> bool:
        """Waits for the end for so long at most; whether it came."""
        self._process.join(seconds)
        return self.returncode is not None

    def wait_until(self, is_there: Callable[[], bool], seconds: float = 120) -> None:
        """Waits for something that the command does."""
        start = time.monotonic()
        while not is_there():
            assert self.returncode is None, self.communicate()
            assert time.monotonic() - start < seconds
            time.sleep(0.01)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it printed, and its errors, after its end."""
        assert self.wait(timeout), "it does not end"
        return pathlib.Path(self._output.name, "printed").read_text(), self.errors

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return pathlib.Path(self._output.name, "errors").read_text()


def _work(
    argv: list[str],
    folder: str,
    most: int | None,
    environment: dict[str, str],
    output: str,
) -> None:
    from tfdet import quiet

    os.chdir(folder)
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
    with quiet.no_stderr():  # of looking for devices
        import tensorflow as tf

        tf.config.list_physical_devices()
    for descriptor, name in ((1, "printed"), (2, "errors")):
        file = os.open(f"{output}/{name}", os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    if most is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    module = importlib.import_module(f"tfdet.cli.{argv[0].removeprefix('tfdet-')}")
    code = module.COMMAND.run(module.main, argv[1:])
    sys.stdout.flush()
    sys.exit(code)
