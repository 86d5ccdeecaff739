import subprocess
import sys

import pytest

from tfdet.errors import UserError
from tfdet.training import lock

HOLDER = """
import pathlib, sys, time
from tfdet.training import lock

with lock.holding(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training"), lock.holding(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with lock.holding(tmp_path):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), lock.holding(tmp_path):
        raise RuntimeError
    with lock.holding(tmp_path):
        pass
