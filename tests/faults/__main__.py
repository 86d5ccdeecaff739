"""Gives commands damaged inputs, thousands of them, and reports those that end badly.

    python -m tests.faults --fuzz=2000 --seed=1
    python -m tests.faults --seed=1 --keep=737 --folder=seen   writes the inputs of case 737

Badly is: an exception that a command does not turn into a sentence, more than 60 seconds of
computing or of nothing at all, more than 4 GB, or the end of the process. Cases run one after the
other in a process of their own, which a bad end replaces.
"""

import argparse
import collections
import json
import os
import pathlib
import select
import shlex
import subprocess
import sys
import time

from tests.faults import fuzz, inputs

SECONDS, GIGABYTES = 60, 4


class Worker:
    """A process that runs cases, and is replaced where it dies of one."""

    def __init__(self, seed: int):
        command = [sys.executable, "-m", "tests.faults", f"--seed={seed}", "--work"]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, inputs.KEPT: str(inputs.kept())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, number: int) -> tuple[str, int, str]:
        """As `fuzz.run_case`."""
        print(number, file=self.process.stdin, flush=True)
        start = computed = self.computed()
        seen = time.monotonic()
        while not select.select([self.process.stdout], [], [], 0.2)[0]:
            # The clock alone would count what other processes take of the machine.
            if self.computed() > computed:
                computed, seen = self.computed(), time.monotonic()
            if max(computed - start, time.monotonic() - seen) > SECONDS:
                return self.end(f"more than {SECONDS} seconds")
            if self.memory() > GIGABYTES:
                return self.end(f"more than {GIGABYTES} GB")
        line = self.process.stdout.readline()
        if not line:
            return self.end(f"the process ended with {self.process.wait()}")
        return tuple(json.loads(line))

    def computed(self) -> float:
        """Seconds that the process has computed."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Gigabytes that the process holds."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next((x for x in status.splitlines() if x.startswith("VmRSS")), "VmRSS: 0")
        return int(line.split()[1]) / 2**20

    def end(self, reason: str) -> tuple[str, int, str]:
        self.process.kill()
        self.process.wait()
        return "", 1, reason

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


def work(seed: int) -> None:
    """Runs the cases whose numbers come in, a line of JSON for each."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    fuzz.write_all()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(fuzz.run_case(seed, int(line))), file=answers, flush=True)


def run(count: int, seed: int, first: int) -> int:
    """Runs cases until `count` inputs were damaged; returns the number of bad ends."""
    number, done, seconds, bad = first, collections.Counter(), collections.Counter(), 0
    worker = Worker(seed)
    while done.total() < count:
        start = time.monotonic()
        name, damaged, problem = worker.run(number)
        name = name or fuzz.target_of(seed, number)[0].name
        done[name] += damaged
        seconds[name] += time.monotonic() - start
        if problem:
            bad += 1
            print(f"case {number} ({name}): {problem}", flush=True)
        if not worker.is_alive:
            worker = Worker(seed)
        number += 1
    worker.end("")
    print(f"{done.total()} damaged inputs, seed {seed}, cases {first} to {number - 1}:")
    for name, count in done.most_common():
        print(f"{count:6} {name}, {seconds[name]:.0f} s")
    print(f"{bad} ended badly")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fuzz", type=int, default=2000, help="damaged inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=int, help="write the inputs of this case")
    parser.add_argument("--folder", default="case", help="where to")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seed)
    elif options.keep is not None:
        folder = pathlib.Path(options.folder)
        folder.mkdir(parents=True)
        _, argv, _ = fuzz.write_case(options.seed, options.keep, folder)
        print(f"cd {shlex.quote(str(folder))}; {shlex.join(argv)}")
    else:
        sys.exit(1 if run(options.fuzz, options.seed, options.first) else 0)


if __name__ == "__main__":
    main()
