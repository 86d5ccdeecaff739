"""The C program of examples/ runs an export by TensorFlow's C API: no Python, no tfdet."""

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdet
from tests.ops import pack_cases
from tfdet.ops import pack_native
from tfdet.serving import verify
from tfdet.serving.driver import LIBRARY_FOLDER, SavedModelDriver

SOURCE = pathlib.Path(__file__).parents[2] / "examples" / "detect.c"

# Linking against a library of a gigabyte takes longer than a test should.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, built with the commands of docs/tensorflow_serving.md."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler (gcc)")
    include, libraries = tf.sysconfig.get_include(), pathlib.Path(tf.sysconfig.get_lib())
    if not pathlib.Path(include, "tensorflow", "c", "c_api.h").is_file():
        pytest.skip("this TensorFlow has no headers of its C API")
    names = [x.name for x in sorted(libraries.glob("libtensorflow_*.so.*"))]
    if not any("cc" in name for name in names):
        pytest.skip("this TensorFlow has no library with its C API")
    path = tmp_path_factory.mktemp("program") / "detect"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-isystem{include}"]
    links = [f"-L{libraries}", *(f"-l:{name}" for name in names), f"-Wl,-rpath,{libraries}"]
    subprocess.run([*command, str(SOURCE), "-o", str(path), *links], check=True)
    return path


def _run(program, *words, code=0):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A PNG and a PPM, which is decoded by the program itself."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "a.png", folder / "b.ppm"]
    for seed, path in enumerate(paths):
        Image.fromarray(verify._crowded_scene(50 + seed, 90, seed)).save(path)
    return paths


def _expected(driver, path, effort=None, least=0.3):
    """The lines of an image's detections, as rows."""
    found = driver.detect(np.asarray(Image.open(path))[None], effort=effort)
    rows = []
    for i in range(int(found["count"][0])):
        if found["scores"][0, i] >= least:
            name = driver.class_names[found["labels"][0, i]]
            rows.append((str(path), name, found["scores"][0, i], *found["boxes"][0, i]))
    return rows


def _rows(said):
    cells = (line.split("\t") for line in said.splitlines())
    return [(file, name, *map(float, numbers)) for file, name, *numbers in cells]


def _assert_equal(rows, expected):
    assert [x[:2] for x in rows] == [x[:2] for x in expected]
    np.testing.assert_allclose([x[2] for x in rows], [x[2] for x in expected], atol=1e-3)
    np.testing.assert_allclose([x[3:] for x in rows], [x[3:] for x in expected], atol=0.5)


def test_both_signatures_give_what_the_driver_gives(program, exported, pictures):
    driver = SavedModelDriver(exported[0])
    for path in pictures:
        rows = _rows(_run(program, exported[0], "--min_score=0.05", path))
        assert len(rows) > 10
        _assert_equal(rows, _expected(driver, path, least=0.05))


def test_a_damaged_image_costs_its_own_row_alone(program, exported, pictures, tmp_path):
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff no image")
    lines = _run(program, exported[0], damaged, pictures[0]).splitlines()
    assert lines[0] == f"{damaged}\tnot read, status 1"
    _assert_equal(
        _rows("\n".join(lines[1:])), _expected(SavedModelDriver(exported[0]), pictures[0])
    )


def test_a_dynamic_detector_takes_an_effort(program, make_dynamic, pictures, tmp_path):
    from tfdet.detectors.calibration import EFFORTS, Calibration

    model = make_dynamic()
    macs = tuple(np.linspace(1e6, 2e6, len(EFFORTS)))
    model.calibration = Calibration(4, tuple(EFFORTS), tuple(EFFORTS), macs, macs)
    tfdet.export(model, tmp_path / "served")
    driver = SavedModelDriver(tmp_path / "served")
    found = []
    for effort in (0.0, 1.0):
        found.append(_rows(_run(program, tmp_path / "served", f"--effort={effort}", *pictures)))
        expected = [row for path in pictures[::-1] for row in _expected(driver, path, effort)]
        _assert_equal(found[-1], expected)
    assert found[0] != found[1]


def test_native_ops_need_their_library(program, pictures, tmp_path):
    pack_cases.require_native()
    model = tfdet.create("packdet-test", num_classes=3)
    for variable in model.variables:
        if variable.path.endswith("class_conv/bias"):
            variable.assign(np.full(variable.shape, -1.0))
    folder = tmp_path / "served"
    tfdet.export(model, folder, native_ops=True)
    said = _run(program, folder, *pictures, code=1)
    assert pack_native.OP in said
    library = folder / LIBRARY_FOLDER / pack_native.LIBRARY
    argv = (f"--ops={library}", "--min_score=0.2", *pictures)
    rows = _rows(_run(program, folder, *argv))
    driver = SavedModelDriver(folder)
    expected = [row for path in pictures[::-1] for row in _expected(driver, path, least=0.2)]
    assert len(rows) > 10
    _assert_equal(rows, expected)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "usage"),
        (("/no/where", "a.png"), "/no/where"),
        (("{export}", "/no/where.png"), "cannot be opened"),
        (("{export}", "/no/where.ppm"), "cannot be opened"),
        (("{export}", "--effort=0.5", "{png}"), "has no calibration"),
        (("{export}", "--colour=red", "{png}"), "no such flag"),
    ],
)
def test_mistakes_end_with_one_sentence(program, exported, pictures, words, sentence):
    words = [word.format(export=exported[0], png=pictures[0]) for word in words]
    assert sentence in _run(program, *words, code=1)
