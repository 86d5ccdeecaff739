import pytest

from tfdet.training import atomic


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "history.csv"
    atomic.write_text(path, "old")
    with pytest.raises(RuntimeError, match="disk"), atomic.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "best.weights.h5"
    atomic.write_text(path, "old")
    with atomic.replacing(str(path)) as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
