"""Folders and exports of earlier versions detect what they detected: `fixtures/README.md`."""

import pathlib
import tarfile

import numpy as np
import pytest

from tfdet.serving import compare
from tfdet.serving.driver import ModelDriver, SavedModelDriver
from tfdet.training import trained

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
NAMES = [path.name.removesuffix(".tar.xz") for path in sorted(FIXTURES.glob("*.tar.xz"))]


@pytest.fixture(scope="module", params=NAMES)
def unpacked(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with tarfile.open(FIXTURES / f"{request.param}.tar.xz") as archive:
        # The files are our own; Python 3.10 and 3.11 before 3.11.4 have no filters.
        archive.extractall(
            folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    return folder


@pytest.fixture(scope="module")
def model(unpacked):
    return trained.load_trained(unpacked / "folder")


@pytest.fixture(scope="module")
def exported(unpacked):
    return SavedModelDriver(unpacked / "export")


def assert_detects_as_before(driver, folder, kind):
    expected = dict(np.load(folder / "expected.npz"))
    for number, threshold in enumerate(expected["thresholds"]):
        prefix = f"{kind}/{number}/"
        before = {k.removeprefix(prefix): v for k, v in expected.items() if k.startswith(prefix)}
        now = driver.detect(expected["images"], threshold=float(threshold))
        assert set(now) == set(before)
        found = compare.compare(before, now, f"threshold {threshold:g}")
        assert found.mismatches == ()
        assert found.detections > 50
        # Not bit by bit: processors differ in the order of their sums.
        assert found.box < 0.01 and found.score < 1e-4


def test_a_folder_detects_as_it_did(unpacked, model):
    assert_detects_as_before(ModelDriver(model), unpacked, "folder")


def test_an_export_detects_as_it_did(unpacked, exported):
    assert_detects_as_before(exported, unpacked, "export")


def test_the_calibration_came_along(unpacked, model, exported):
    """Its half is the threshold that the earlier version chose for a share of one half."""
    expected = np.load(unpacked / "expected.npz")["thresholds"][-1]
    model.effort = 0.5
    assert model.threshold == pytest.approx(float(expected), rel=1e-6)
    assert exported.calibration.threshold_for(effort=0.5) == pytest.approx(
        float(expected), rel=1e-6
    )
