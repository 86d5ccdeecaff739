import pathlib

import pytest

from tfdet import cache_folder
from tfdet.errors import UserError


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.delenv("TFDET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_it_is_in_the_home_folder_or_where_the_user_says(monkeypatch, tmp_path):
    assert cache_folder.path() == pathlib.Path.home() / ".cache" / "tfdet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder.path() == tmp_path / "tfdet"
    monkeypatch.setenv("TFDET_CACHE", "~/weights")
    assert cache_folder.path() == pathlib.Path.home() / "weights"


def test_somebody_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", homeless)
    with pytest.raises(UserError, match=r"no home folder .* set TFDET_CACHE"):
        cache_folder.path()
