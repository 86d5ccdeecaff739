"""Tests of detection in many images and videos; the command is in tests/cli."""

import types

import numpy as np
import pytest
from PIL import Image

import tfdet
from tfdet.errors import UserError
from tfdet.serving import compare, stream, verify
from tfdet.serving.driver import ModelDriver

SIZES = ((50, 90), (131, 40), (64, 64), (33, 77), (20, 20))


@pytest.fixture(scope="module")
def driver(model):
    return ModelDriver(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, size in enumerate(SIZES):
        Image.fromarray(verify._crowded_scene(*size, seed=i)).save(folder / f"{i}.png")
    (folder / "2b.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_all_images_of_a_folder_are_detected_in(driver, folder, batch_size):
    all_found = list(tfdet.detect(driver, str(folder), batch_size))
    (bad,) = (x for x in all_found if x.error)
    assert bad.file.endswith("2b.png") and bad.detections is None
    good = [x for x in all_found if not x.error]
    assert [x.file for x in good] == [str(folder / f"{i}.png") for i in range(len(SIZES))]
    for found, size in zip(good, SIZES, strict=True):
        assert found.image.shape == (*size, 3)
        expected = driver.detect(found.image[None])
        assert compare.compare(expected, found.detections, found.file).mismatches == ()


def test_a_model_is_taken_as_it_is(model, folder):
    (found,) = tfdet.detect(model, str(folder / "0.png"))
    assert found.detections["count"][0] == 100


def test_whoever_stops_early_leaves_no_thread_waiting(driver, folder):
    results = tfdet.detect(driver, str(folder), 1)
    next(results)
    results.close()


def test_a_static_model_takes_no_effort(driver, folder):
    with pytest.raises(UserError, match="effort needs a calibration"):
        next(tfdet.detect(driver, str(folder), effort=0.5))
    with pytest.raises(UserError, match="the model is static"):
        next(tfdet.detect(driver, str(folder), threshold=0.5))


def test_the_first_batch_is_not_timed(driver, folder):
    one = stream.Stream(driver, batch_size=2)
    files = [str(folder / f"{i}.png") for i in range(5)]
    assert len(list(one.released(one.images(files)))) == 5
    assert one.timing.images == 4  # the first comes alone
    assert one.timing.network_seconds > 0


class _Reader:
    """Frames of a video, as many as are asked for."""

    source = "street.mp4"

    def __init__(self, count):
        self._count = count

    def __iter__(self):
        for i in range(self._count):
            image = verify._crowded_scene(40, 60, seed=i)
            yield types.SimpleNamespace(number=i, seconds=i / 10, image=image)


@pytest.mark.parametrize(("count", "most"), [(0, None), (1, None), (5, None), (5, 3), (9, 9)])
def test_frames_come_in_order(driver, count, most):
    one = stream.Stream(driver, batch_size=2)
    found = list(one.released(one.frames(_Reader(count), most)))
    wanted = min(count, most or count)
    assert [x.frame for x in found] == list(range(wanted))
    np.testing.assert_allclose([x.seconds for x in found], np.arange(wanted) / 10)
    for x in found[:2]:
        expected = driver.detect(x.image[None])
        assert compare.compare(expected, x.detections, "frame").mismatches == ()


def test_a_frame_of_a_camera_does_not_wait_for_others(driver, monkeypatch):
    sizes = []
    one = stream.Stream(driver)
    honest = one._detector.detect
    monkeypatch.setattr(one._detector, "detect", lambda x: sizes.append(len(x)) or honest(x))
    reader = _Reader(4)
    reader.source = "camera:0"
    assert len(list(one.released(one.frames(reader)))) == 4
    assert sizes == [1, 1, 1, 1]
