"""Tests of what a word stands for: files, folders, patterns, cameras."""

import pytest

from tfdet.errors import UserError
from tfdet.serving import inputs, video


@pytest.fixture
def folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "street.mp4", "notes.txt", "c.heic", "._a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.jpg").touch()
    (tmp_path / "a[1].jpg").touch()
    return tmp_path


def _names(paths):
    return [path.rpartition("/")[2] for path in paths]


def test_a_folder_is_its_images_and_videos(folder, monkeypatch):
    monkeypatch.setattr(video, "is_installed", lambda: True)
    found = inputs.find(str(folder))
    assert _names(found.images) == ["a.jpg", "a[1].jpg", "b.PNG"]
    assert _names(found.videos) == ["street.mp4"]
    assert found.note == (
        f"1 files of {folder} are of kinds that are not read (.heic); convert them to JPEG or PNG"
    )


def test_without_pyav_the_images_of_a_folder_are_left(folder, monkeypatch):
    monkeypatch.setattr(video, "is_installed", lambda: False)
    found = inputs.find(str(folder))
    assert (len(found.images), found.videos) == (3, ())
    assert found.note.startswith("1 videos need PyAV: pip install 'tfdet[video]'; 1 files of")


@pytest.mark.parametrize(
    ("pattern", "images", "videos"),
    [
        ("*.jpg", ["a.jpg", "a[1].jpg"], []),
        ("**/*.jpg", ["a.jpg", "a[1].jpg", "d.jpg"], []),
        ("*", ["a.jpg", "a[1].jpg", "b.PNG", "c.heic", "notes.txt"], ["street.mp4"]),
        ("a[1].jpg", ["a[1].jpg"], []),
        ("street.mp4", [], ["street.mp4"]),
    ],
)
def test_patterns_and_files(folder, pattern, images, videos):
    found = inputs.find(f"{folder}/{pattern}")
    assert sorted(_names(found.images)) == images
    assert _names(found.videos) == videos


@pytest.mark.parametrize("word", ["camera:0", "camera:lavfi:testsrc", "rtsp://camera/1"])
def test_cameras_are_videos(word):
    assert inputs.find(word) == inputs.Inputs(videos=(word,))


@pytest.mark.parametrize("word", ["https://example.org/a.jpg", "/no/where/*.jpg", ""])
def test_what_is_not_there_is_one_sentence(word):
    with pytest.raises(UserError, match="no file matches"):
        inputs.find(word)


def test_a_folder_without_images_names_the_pattern_for_those_below(tmp_path):
    with pytest.raises(UserError, match=r"holds no image .* and no video; .*\*\*/\*.jpg'"):
        inputs.find(str(tmp_path))
