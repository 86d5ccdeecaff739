import pytest

from tfdet import cache_folder
from tfdet.errors import UserError
from tfdet.weights import cache, catalog

ENTRY = catalog.find("efficientdet-d0", "automl-d0")


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))
    assert cache.place_of(ENTRY) == tmp_path / "weights" / "automl" / "efficientdet-d0"
    assert cache.is_archive(ENTRY)


def test_what_is_not_there_says_how_to_fetch_it(monkeypatch, tmp_path):
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"`tfdet-weights fetch automl-d0` \(licence: Apache-2.0\)"):
        cache.path_of(ENTRY)
    cache.place_of(ENTRY).mkdir(parents=True)
    assert cache.path_of(ENTRY) == str(cache.place_of(ENTRY))
