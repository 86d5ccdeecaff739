import os

import pytest

from tfdet.data import paths
from tfdet.errors import UserError


@pytest.mark.parametrize(("name", "parts"), [("a.jpg", ["a.jpg"]), ("x\\b.jpg", ["x", "b.jpg"])])
def test_names_are_joined_below_the_directory(name, parts):
    assert paths.join_inside("d", name) == os.path.join("d", *parts)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.jpg", "x/../../a.jpg", "C:\\a.jpg"])
def test_names_that_lead_out_are_refused(name):
    assert paths.join_inside("d", name) is None


def test_what_is_absent_is_named(tmp_path):
    assert paths.require_directory(str(tmp_path), "images") == str(tmp_path)
    with pytest.raises(UserError, match="images: there is no directory"):
        paths.require_directory(str(tmp_path / "none"), "images")
    with pytest.raises(UserError, match="labels: there is no file"):
        paths.read_text(str(tmp_path / "none"), "labels")
    with pytest.raises(UserError, match=r"labels: .* is a folder"):
        paths.read_text(str(tmp_path), "labels")


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffgröße".encode())
    assert paths.read_text(str(file), "names") == "größe"
    file.write_bytes(b"gr\xf6\xdfe")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        paths.read_text(str(file), "names")


def test_the_first_path_that_is_there_is_found(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.jpg").touch()
    found = paths.existing(str(tmp_path / "none"), f"{tmp_path}\\images\\x.jpg")
    assert found == str(tmp_path / "images" / "x.jpg")
    assert paths.existing(str(tmp_path / "none")) is None
