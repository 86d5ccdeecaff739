"""The op's arithmetic without TensorFlow: the CPU's functions, and the CUDA kernel on CPU threads.

Both run under AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("c++")
CPU = ("pack_copy.cc", "pack_layout.cc", "parallel.cc")
FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-pthread", f"-I{ROOT / 'custom_ops'}")
THREADS = "kThreads = 256;"
LAUNCH = "CopyRows<Word, kPack><<<blocks, kThreads, 0, stream>>>(job);"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler"),
]


def _check(folder, *arguments):
    sources = [ROOT / "tests" / "custom_ops" / "pack_kernels_test.cc"]
    sources += [ROOT / "custom_ops" / name for name in CPU]
    program = folder / "pack_kernels_test"
    subprocess.run([COMPILER, *FLAGS, *arguments, *sources, "-o", program], check=True)
    environment = {**os.environ, "TFDET_PACK_THREADS": "4"}
    done = subprocess.run([program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_cpu_functions_copy_every_cell_and_nothing_else(tmp_path):
    _check(tmp_path, "-std=c++17")


def test_the_cuda_kernel_copies_every_cell_and_nothing_else(tmp_path):
    # A C++ compiler cannot read the launch, and 256 threads per block are slow to start; everything
    # else is compiled as it stands.
    text = (ROOT / "custom_ops" / "pack_op.cu.cc").read_text()
    assert text.count(LAUNCH) == text.count(THREADS) == 1
    text = text.replace(THREADS, "kThreads = 64;")
    call = "(void)stream; RunOnCpu(blocks, kThreads, [&] { CopyRows<Word, kPack>(job); });"
    source = tmp_path / "pack_op_on_cpu.cc"
    source.write_text(text.replace(LAUNCH, call))
    include = ROOT / "tests" / "custom_ops" / "cuda_on_cpu"
    _check(tmp_path, "-std=c++20", "-DCUDA_ON_CPU", f"-I{include}", source)


def test_the_cuda_sources_compile(tmp_path):
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc")
    source, target = ROOT / "custom_ops" / "pack_op.cu.cc", tmp_path / "pack_op.o"
    command = [nvcc, "-x", "cu", "-std=c++17", "-arch=all-major", "-Werror", "all-warnings"]
    subprocess.run([*command, "-c", source, "-o", target], check=True)
