"""Every case of the tables `*_cases.py` beside this file ends as it says."""

import fnmatch
import importlib
import pathlib

import pytest

from tests.faults import case as faults

TABLES = sorted(pathlib.Path(__file__).parent.glob("*_cases.py"))
CASES = [
    pytest.param(
        case, id=case.name.replace(" ", "-"), marks=[pytest.mark.slow] if case.is_slow else []
    )
    for table in TABLES
    for case in importlib.import_module(f"tests.faults.{table.stem}").CASES
]


@pytest.mark.parametrize("case", CASES)
def test_it_ends_well(case, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    argv = case.make(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in case.keeps}
    there = faults.tree(tmp_path)
    capfd.readouterr()
    code = faults.run(argv)
    faults.check(case, tmp_path, code, "".join(capfd.readouterr()), before)
    if case.leaves is not None:
        new = faults.tree(tmp_path) - there
        assert not [x for x in new if not any(fnmatch.fnmatch(x, p) for p in case.leaves)]
