import subprocess
import sys

import pytest

from tfdet import files
from tfdet.errors import UserError

HOLDER = """
import pathlib, sys, time
from tfdet import files

with files.holding(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "history.csv"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="disk"), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "best.weights.h5"
    files.write_text(path, "old")
    with files.replacing(str(path)) as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training"), files.holding(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with files.holding(tmp_path):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), files.holding(tmp_path):
        raise RuntimeError
    with files.holding(tmp_path):
        pass
