"""Runs of a study on a cluster of Ray, whose machines see the repository and --runs_dir as here."""

import os
import pathlib
import traceback

import ray

from benchmarks.study import measure
from tfdet.nas import workers

_ROOT = pathlib.Path(__file__).parents[2]


def connect(address: str, jobs: int) -> None:
    """Connects to the cluster, which must have a CPU for each of `jobs` runs."""
    places = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    workers.connect(ray, jobs, address, {"env_vars": {"PYTHONPATH": os.pathsep.join(places)}})


class Task:
    """A run in a process of the cluster, as the runner handles a `subprocess.Popen`.

    Args:
        folder: of the run, see `measure`; its log.txt gets what the run prints.
    """

    def __init__(self, folder: pathlib.Path):
        # Each run gets a new process, and one whose machine is lost resumes elsewhere.
        task = ray.remote(num_cpus=1, max_calls=1, max_retries=3)(_measure)
        self._folder, self._reference = folder, task.remote(str(folder))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and ray.wait([self._reference], timeout=0)[0]:
            self.returncode = self.wait()
        return self.returncode

    def kill(self) -> None:
        ray.cancel(self._reference, force=True)

    def wait(self) -> int:
        """0 where the run was measured; log.txt says what went wrong elsewhere."""
        try:
            return ray.get(self._reference)
        except ray.exceptions.RayError as error:
            with open(self._folder / "log.txt", "a") as log:
                log.write(f"{error}\n")
            return 1


def _measure(folder: str) -> int:
    log = os.open(pathlib.Path(folder) / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        measure.run(pathlib.Path(folder))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
