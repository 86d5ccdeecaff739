"""Data sets on a full disk, in processes of their own."""

import pytest

from tests.faults import processes


@pytest.mark.parametrize(
    ("argv", "file"),
    [
        (("convert", "shapes:val:4"), "c/x-00000-of-00001.tfrecord"),
        (("make", "shapes", "--split=val", "--count=2"), "c/x/val/val_000000.png"),
    ],
)
def test_b14_a_full_disk_is_a_sentence_and_leaves_nothing_half(tmp_path, argv, file):
    process = processes.Process(("tfdet-data", *argv, "--output=c/x"), tmp_path, most=5_000)
    _, errors = process.communicate()
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("tfdet-data: ") and file in last and "Traceback" not in errors
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
