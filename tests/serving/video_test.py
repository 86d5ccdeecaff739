"""Tests of videos: what is written is read again, with its times; what is damaged ends well."""

import fractions

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.serving import video

av = pytest.importorskip("av", reason="PyAV is not installed; it is the extra [video] of tfdet")


def _pictures(count, height=48, width=64):
    """Grey pictures, each lighter than the one before."""
    return [np.full((height, width, 3), 20 + 10 * i, np.uint8) for i in range(count)]


def _write(path, pictures, seconds, rate=10.0):
    writer = video.VideoWriter(path, rate, "me")
    for picture, at in zip(pictures, seconds, strict=True):
        writer.add(picture, at)
    writer.close()
    return path


def _read(source):
    with video.VideoReader(str(source)) as reader:
        return list(reader), reader


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_frames_come_back_with_their_times(tmp_path, size):
    seconds = [0.0, 0.1, 0.2, 0.5, 0.9]  # not at a constant rate
    path = _write(tmp_path / "a.mp4", _pictures(5, *size), seconds)
    frames, reader = _read(path)
    assert [x.number for x in frames] == list(range(5))
    np.testing.assert_allclose([x.seconds for x in frames], seconds, atol=2e-3)
    even = tuple(side + side % 2 for side in size)
    assert {x.image.shape for x in frames} == {(*even, 3)}
    np.testing.assert_allclose([x.image.mean() for x in frames], [20, 30, 40, 50, 60], atol=3)
    assert (reader.num_frames, reader.num_damaged) == (5, 0)
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == "me"


def test_times_that_go_back_are_put_in_order(tmp_path):
    frames, _ = _read(_write(tmp_path / "a.mp4", _pictures(3), [0.5, 0.2, 0.2]))
    seconds = [x.seconds for x in frames]
    assert len(seconds) == 3
    assert seconds == sorted(set(seconds))


def test_a_video_without_frames_is_refused(tmp_path):
    video.VideoWriter(tmp_path / "a.mp4", 10, "me").close()
    with pytest.raises(UserError, match=r"a\.mp4 "):
        _read(tmp_path / "a.mp4")


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x18ftypmp42"])
def test_what_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match="cannot be opened as a video"):
        _read(tmp_path / "a.mp4")


def test_sound_alone_is_refused(tmp_path):
    path = str(tmp_path / "a.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="has no pictures, only sound or text"):
        _read(path)


def test_a_cut_file_gives_the_frames_that_are_there(tmp_path):
    path = tmp_path / "a.mkv"  # which needs no index at its end
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames, _ = _read(path)
    assert 2 < len(frames) < 20


def test_a_picture_that_was_filmed_sideways_stands_upright(tmp_path):
    class Turned:
        time = 0.0
        rotation = 90

        def to_ndarray(self, format):
            return np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    assert video._quarter_turns(Turned()) == 1
    Turned.rotation = -90
    assert video._quarter_turns(Turned()) == 3
    Turned.rotation = -180
    assert video._quarter_turns(Turned()) == 2


def test_a_camera_gives_frames():
    """FFmpeg's own input device stands for one; it has all that a camera has but the glass."""
    if "lavfi" not in av.formats_available:
        pytest.skip("this FFmpeg has no input device but cameras")
    source = "camera:lavfi:testsrc=size=64x48:rate=10:duration=0.5"
    frames, reader = _read(source)
    assert [x.image.shape for x in frames] == [(48, 64, 3)] * 5
    assert frames[0].image.std() > 30
    assert reader.rate == pytest.approx(10)
    np.testing.assert_allclose([x.seconds for x in frames], np.arange(5) / 10, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("camera:9999", "there is no camera /dev/video9999"),
        ("camera:front", "write camera:0 for the first camera"),
        ("camera:nodevice:x", "cannot be opened as a video"),
        ("rtsp://127.0.0.1:1/x", "cannot be opened as a video"),
        ("/no/where.mp4", "cannot be opened as a video"),
    ],
)
def test_cameras_that_are_not_there_are_one_sentence(source, sentence, monkeypatch):
    monkeypatch.setattr(video.sys, "platform", "linux")
    with pytest.raises(UserError, match=sentence):
        video.VideoReader(source)


def test_a_rate_of_nonsense_is_replaced(tmp_path):
    path = _write(tmp_path / "a.mp4", _pictures(2), [0, 0.04], rate=float(fractions.Fraction(999)))
    assert 0 < video.VideoReader(str(path)).rate <= 1000
