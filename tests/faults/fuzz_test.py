"""Damaged inputs: that they are what they are said to be, and that none of thousands ends badly."""

import random
import subprocess
import sys

import pytest

from tests.faults import damage, fuzz, inputs


def test_a_case_is_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    # Tables alone, which are made at once.
    number = next(i for i in range(100) if _is_quick(i))
    targets = [fuzz.write_case(0, number, tmp_path / name)[0] for name in ("one", "two")]
    assert targets[0] is targets[1]
    contents = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in files(tmp_path / name)}
        for name in ("one", "two")
    ]
    assert contents[0] == contents[1] and contents[0]


def _is_quick(number):
    return fuzz.target_of(0, number)[0].write in (
        inputs.write_coco,
        inputs.write_voc,
        inputs.write_yolo,
    )


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["json", "lines", "text", "bytes"])
def test_damage_changes_most_files(kind):
    content = b'{"a": [1, 2, {"b": "text"}], "c": 0.5}'
    found = [damage.damage(content, kind, random.Random(seed)) for seed in range(100)]
    assert sum(x != content for x in found) > 80
    assert found == [damage.damage(content, kind, random.Random(seed)) for seed in range(100)]


@pytest.mark.slow
def test_no_damaged_input_ends_badly():
    command = [sys.executable, "-m", "tests.faults", "--fuzz=2000", "--seed=0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
