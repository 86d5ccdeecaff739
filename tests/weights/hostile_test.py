"""Damaged and malicious files take less memory than twice their size, and nothing of them runs."""

import gc
import tracemalloc

import pytest

from tests.weights import hostile
from tfdet.errors import UserError
from tfdet.weights import reading

_OWN = 2 << 20  # of the program itself: buffers, names, some thousand empty lists


def read_all(path):
    for tensor in reading.open_weights(path).tensors.values():
        tensor.read()


@pytest.mark.parametrize("file", hostile.FILES, ids=lambda file: file.name.replace(" ", "-"))
def test_it_takes_less_than_twice_its_size(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    file.make(path)
    gc.collect()
    tracemalloc.start()
    try:
        if file.says:
            with pytest.raises(UserError, match=file.says) as caught:
                read_all(path)
            assert "\n" not in str(caught.value)
        else:
            read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + _OWN
    assert not (tmp_path / hostile.WITNESS).exists()


def test_the_attack_is_a_real_one(tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    hostile.plain_pickle_attack(tmp_path / "x.pkl")
    with pytest.raises(UserError):
        reading.open_weights(tmp_path / "x.pkl")
    assert not (tmp_path / hostile.WITNESS).exists()
    pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert (tmp_path / hostile.WITNESS).exists()
