import os
import re
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


def test_a_disk_without_room_is_a_sentence_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.weights.h5"
    files.write_text(path, "old")
    with pytest.raises(files.NotWritten) as caught, files.writing(path) as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    assert re.match(
        rf"{path} could not be written \(No space left on device\); .* as it was. Make room",
        str(caught.value),
    )
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_within_the_block_is_not_called_unwritten(tmp_path):
    with pytest.raises(FileNotFoundError), files.writing(tmp_path / "a"):
        (tmp_path / "none").read_text()


def test_temporary_names_cannot_be_foretold_and_are_no_links(tmp_path):
    names = set()
    for _ in range(3):
        with files.replacing(tmp_path / "recipe.yaml") as temporary:
            names.add(temporary.name)
            assert temporary.is_file() and not temporary.is_symlink()
            assert re.fullmatch(r"\.tmp-[0-9a-f]{16}\.yaml", temporary.name)
    assert len(names) == 3


def test_the_longest_names_have_a_temporary_one(tmp_path):
    for name in ("\N{CYRILLIC SMALL LETTER IE}" * 120 + ".jpg", "a" * 255):
        files.write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (tmp_path / "history.csv").symlink_to(victim)
    files.write_text(tmp_path / "history.csv", "ours")
    assert victim.read_text() == "mine"
    assert (tmp_path / "history.csv").read_text() == "ours"


def test_the_lock_follows_no_link_and_empties_no_file(tmp_path):
    (tmp_path / "victim.txt").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim.txt")
    refused = pytest.raises(UserError, match="lock is a link, which is not followed; remove it")
    with refused, files.holding(tmp_path):
        pass
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").write_text("notes")
    with files.holding(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "notes"
    assert (tmp_path / "victim.txt").read_text() == "mine"


def test_what_killed_runs_had_half_written_is_removed(tmp_path):
    other = tmp_path / "other_run"
    for folder in (tmp_path, tmp_path / "state", other):
        folder.mkdir(exist_ok=True)
        (folder / ".tmp-0123.npz").write_text("half")
        (folder / "whole.npz").write_text("whole")
    (other / ".lock").touch()
    with files.holding(tmp_path):
        left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob(".tmp-*"))
        assert left == [os.path.join("other_run", ".tmp-0123.npz")]
    assert len(list(tmp_path.rglob("whole.npz"))) == 3
