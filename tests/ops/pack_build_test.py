"""How the native library is built: against which symbols, from which declarations, and if not."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.ops import pack_cases
from tfdet.ops import pack_native

ROOT = pathlib.Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("c++")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


def test_the_library_asks_tensorflow_for_its_c_api_alone():
    pack_cases.require_native()
    if shutil.which("nm") is None:
        pytest.skip("there is no nm to list symbols")
    command = ["nm", "--dynamic", "--undefined-only", str(pack_native.library_path())]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # "U name"; weak ones ("w name") are hooks that need not be there.
    names = [line.split()[1] for line in listed.splitlines() if line.split()[0] == "U"]
    assert sum(name.startswith("TF_") for name in names) > 20
    # What else is needed belongs to the C library and carries its version.
    assert not [n for n in names if not n.startswith("TF_") and "@GLIBC" not in n]


@needs_compiler
@pytest.mark.slow
def test_our_declarations_are_those_of_tensorflow():
    include = pathlib.Path(tf.sysconfig.get_include())
    command = [COMPILER, "-std=c++17", "-fsyntax-only", "-Werror", f"-I{include}"]
    # First the op against TensorFlow's headers instead of ours ...
    source = ROOT / "custom_ops" / "pack_op.cc"
    subprocess.run([*command, "-DTFDET_WITH_TENSORFLOW_HEADERS", str(source)], check=True)
    # ... then the numbers, which no type check sees.
    numbers = "TF_FLOAT == 1 && TF_INT8 == 6 && TF_BFLOAT16 == 14 && TF_HALF == 19"
    numbers += " && TF_OK == 0 && TF_INVALID_ARGUMENT == 3"
    headers = '#include "tensorflow/c/tf_datatype.h"\n#include "tensorflow/c/tf_status.h"\n'
    text = f"{headers}static_assert({numbers});\n"
    subprocess.run([*command, "-x", "c++", "-"], input=text, text=True, check=True)


def _build(folder, **environment):
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder)]
    command += ["--build-temp", str(folder / "work")]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}
    )


@needs_compiler
@pytest.mark.slow
def test_setup_builds_a_library_that_loads(tmp_path):
    done = _build(tmp_path)
    library = tmp_path / "tfdet" / "ops" / "libtfdet_pack.so"
    assert done.returncode == 0 and library.is_file(), done.stderr
    # In another process: TensorFlow takes an op from the first library that brings it.
    text = f"import tensorflow as tf; tf.load_op_library({str(library)!r}).tfdet_pack"
    subprocess.run([sys.executable, "-c", text], check=True)


@pytest.mark.parametrize(
    ("environment", "cause"),
    [
        ({"CXX": "no-such-compiler"}, "no-such-compiler is not found; install a C++ compiler"),
        ({"CXX": "false"}, "false failed"),
    ],
)
def test_a_failing_compiler_is_reported_and_does_not_stop_the_installation(
    tmp_path, environment, cause
):
    done = _build(tmp_path, **environment)
    assert done.returncode == 0
    assert "libtfdet_pack.so is left out, the portable pack op will run" in done.stderr
    assert cause in done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_gpu_kernels_without_nvcc_are_reported(tmp_path):
    done = _build(tmp_path, TFDET_CUDA="1", NVCC="no-such-nvcc", CXX="no-such-compiler")
    assert done.returncode == 0
    assert "libtfdet_pack_cuda.so is left out" in done.stderr
    assert "no-such-nvcc is not found; install CUDA or set NVCC" in done.stderr
