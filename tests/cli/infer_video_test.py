"""`tfdet-infer` on videos and cameras."""

import json
import signal

import numpy as np
import pytest

from tfdet.cli import flags, infer
from tfdet.data import decode, sources
from tfdet.errors import Interrupted
from tfdet.serving import driver as drivers
from tfdet.serving import stream, video
from tfdet.training import trained

av = pytest.importorskip("av", reason="PyAV is not installed; it is the extra [video] of tfdet")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven frames of 256x256, ten a second."""
    path = tmp_path_factory.mktemp("clip") / "street.mp4"
    dataset = sources.open_dataset("shapes:val")
    writer = video.VideoWriter(path, 10, "a camera")
    for i in range(7):
        writer.add(decode.decode_image(dataset.encoded(i)), i / 10)
    writer.close()
    return path


@pytest.fixture(scope="module")
def driver(model_dir):
    return drivers.ModelDriver(trained.load_trained(model_dir))


@pytest.fixture
def look(run, model_dir, driver, tmp_path, monkeypatch):
    """Runs the command on a word; code, output, errors, and the folder.

    Its model is loaded and traced once for all; infer_test.py goes the whole way.
    """
    monkeypatch.setattr(flags, "load_model", lambda options: None)
    monkeypatch.setattr(drivers, "ModelDriver", lambda model: driver)

    def call(source, *flags, output="out"):
        folder = tmp_path / output
        argv = (f"--model_dir={model_dir}", f"--input={source}", f"--output_dir={folder}")
        return *run("infer", *argv, "--min_score=0.005", *flags), folder

    return call


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _assert_whole(folder, name, count):
    """A drawn video and a line for each of its frames."""
    lines = _lines(folder / f"{name}.jsonl")
    assert [x["frame"] for x in lines] == list(range(count))
    with video.VideoReader(str(folder / f"{name}.mp4")) as reader:
        frames = list(reader)
    assert len(frames) == count
    seconds = [x["seconds"] for x in lines]
    np.testing.assert_allclose([x.seconds for x in frames], seconds, atol=2e-3)
    return lines, frames


def test_a_video_is_drawn_and_has_a_line_per_frame(look, clip):
    code, said, _, folder = look(clip, "--save_csv", "--save_txt", "--save_coco", "--batch_size=3")
    assert code == 0
    assert "700 detections in 0 images and 7 frames of 1 videos" in said
    assert "throughput: " in said
    lines, frames = _assert_whole(folder, "street", 7)
    assert all(len(x["detections"]) == 100 for x in lines)
    with video.VideoReader(str(clip)) as reader:  # boxes were drawn into it
        assert np.abs(frames[0].image.astype(int) - next(iter(reader)).image).max() > 100
    (entry,) = json.loads((folder / "detections.json").read_text())
    assert entry["num_frames"] == 7 and entry["num_detections"] == 700
    assert entry["size"] == [256, 256] and entry["frames_per_second"] == 10
    rows = (folder / "detections.csv").read_text().splitlines()
    assert len(rows) == 701 and rows[-1].split(",")[1] == "6"
    assert len(list((folder / "labels" / "street").glob("*.txt"))) == 7
    coco = json.loads((folder / "coco.json").read_text())
    assert [x["frame"] for x in coco["images"]] == list(range(7))
    # All of it is cleared by the next one.
    assert look(clip, "--overwrite", "--max_frames=2")[0] == 0
    names = {x.name for x in folder.iterdir()}
    assert names == {"detections.json", "street.mp4", "street.jsonl"}
    _assert_whole(folder, "street", 2)


def test_an_earlier_one_is_not_replaced_without_leave(look, clip):
    assert look(clip, "--max_frames=1")[0] == 0
    code, _, errors, _ = look(clip)
    assert code == 1 and "holds the detections of an earlier tfdet-infer" in errors[-1]


def test_images_and_videos_of_a_folder_are_looked_at(look, clip, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(sources.open_dataset("shapes:val").encoded(0))
    (photos / "street.mp4").write_bytes(clip.read_bytes())
    (photos / "torn.mp4").write_bytes(clip.read_bytes()[:300])
    code, said, errors, folder = look(photos, "--max_frames=2")
    assert code == 1
    assert "in 1 image and 2 frames of 1 video" in said
    assert any("torn.mp4 cannot be opened as a video" in line for line in errors)
    names = {x.name for x in folder.iterdir()}
    assert names == {"detections.json", "a.jpg", "street.mp4", "street.jsonl"}


def test_a_camera_is_looked_at(look):
    if "lavfi" not in av.formats_available:
        pytest.skip("this FFmpeg has no input device but cameras")
    source = "camera:lavfi:testsrc=size=64x48:rate=25"  # without an end
    code, _, _, folder = look(source, "--max_frames=4")
    assert code == 0
    (entry,) = json.loads((folder / "detections.json").read_text())
    assert entry["file"] == source and entry["num_frames"] == 4
    _assert_whole(folder, entry["video"].removesuffix(".mp4"), 4)


class _Stopped:
    """A stream that is interrupted after a few frames."""

    def __init__(self, error, after):
        self._error, self._after, self._honest = error, after, stream.Stream.frames

    def frames(self, one, reader, most=None):
        for found in self._honest(one, reader, most):
            if found.frame == self._after:
                raise self._error
            yield found


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("stopped", signal.SIGTERM)])
def test_what_was_seen_of_a_video_is_kept(look, clip, monkeypatch, error):
    stopped = _Stopped(error, 3)
    monkeypatch.setattr(stream.Stream, "frames", lambda *args: stopped.frames(*args))
    code, _, errors, folder = look(clip, "--save_csv")
    assert code == (143 if isinstance(error, Interrupted) else 130)
    assert "detections.json has 1 of 1" in errors[-1]
    _assert_whole(folder, "street", 3)
    assert len((folder / "detections.csv").read_text().splitlines()) == 301


def test_ctrl_c_is_how_a_camera_ends(look, monkeypatch):
    if "lavfi" not in av.formats_available:
        pytest.skip("this FFmpeg has no input device but cameras")
    stopped = _Stopped(KeyboardInterrupt(), 3)
    monkeypatch.setattr(stream.Stream, "frames", lambda *args: stopped.frames(*args))
    code, said, errors, _ = look("camera:lavfi:testsrc=size=64x48:rate=25")
    assert (code, errors) == (0, [])
    assert "3 frames of 1 videos" in said


def test_without_pyav_the_extra_is_named_before_any_work(look, clip, monkeypatch, tmp_path):
    import builtins

    honest = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return honest(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, errors, folder = look(clip)
    assert code == 1
    assert "pip install 'tfdet[video]'" in errors[-1]
    assert not folder.exists()


def test_frames_are_only_limited_where_there_are_any(look, tmp_path):
    (tmp_path / "a.png").write_bytes(sources.open_dataset("shapes:val").encoded(0))
    code, _, errors, _ = look(tmp_path / "a.png", "--max_frames=2")
    assert code == 2 and "--max_frames is for videos" in errors[-1]
    assert infer.COMMAND.run(infer.main, [f"--input={tmp_path}", "--max_frames=0"]) == 2
