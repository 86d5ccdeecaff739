"""Builds the native pack op where there is a compiler; all metadata stands in pyproject.toml.

The CPU library needs a C++17 compiler ($CXX or c++) and no TensorFlow: it uses TensorFlow's C API
through declarations of its own (`custom_ops/tensorflow_c_api.h`) and finds the functions in the
TensorFlow that loads it. It therefore builds in pip's isolated environment, where no TensorFlow is,
and one library serves every TensorFlow from 2.18 on.

    pip install .                                          the CPU library
    TFDET_CUDA=1 pip install --no-build-isolation .        the GPU kernels too

The GPU kernels need `nvcc` and the headers of the TensorFlow that will load them, hence
`--no-build-isolation`; they serve that version only. TFDET_CUDA_ARCH is nvcc's -arch (default
all-major). What cannot be built is left out with a message (`pip install -v` shows it): tfdet then
packs with its portable op.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import setuptools
from setuptools.command import build_ext

SOURCES = pathlib.Path("custom_ops")
CPU = ("pack_op.cc", "pack_copy.cc", "pack_layout.cc", "parallel.cc")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall")
# A C++ runtime of its own, hidden: the library then runs on machines with another one.
RUNTIME = ("-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL")
FRAMEWORK = "libtensorflow_framework.so.2"


class CannotBuild(Exception):
    """Why a library was left out."""


class BuildNative(build_ext.build_ext):
    """Compiles libraries that TensorFlow loads; they are no Python modules."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def get_export_symbols(self, ext: setuptools.Extension) -> list[str]:
        return []

    def build_extension(self, ext: setuptools.Extension) -> None:
        target = pathlib.Path(self.get_ext_fullpath(ext.name))
        work = pathlib.Path(self.build_temp).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        build = build_cuda if ext.name.endswith("cuda") else build_cpu
        try:
            build(target, work)
        except CannotBuild as error:
            print(
                f"tfdet: {target.name} is left out, the portable pack op will run: {error}",
                file=sys.stderr,
            )


def build_cpu(target: pathlib.Path, work: pathlib.Path) -> None:
    compiler, sources = _compiler(), [str(SOURCES / name) for name in CPU]
    if sys.platform == "darwin":
        run(compiler, *FLAGS, "-shared", "-undefined", "dynamic_lookup", *sources, "-o", target)
        return
    # An empty library by TensorFlow's name, only to be linked: the real one is in place when the
    # result is loaded, and nothing else of it is needed.
    empty = work / "empty.cc"
    empty.write_text("")
    run(compiler, "-shared", "-fPIC", f"-Wl,-soname,{FRAMEWORK}", empty, "-o", work / FRAMEWORK)
    link = (f"-L{work}", "-Wl,--no-as-needed", f"-l:{FRAMEWORK}", "-Wl,--as-needed")
    run(compiler, *FLAGS, "-shared", *sources, *link, *RUNTIME, "-o", target)


def build_cuda(target: pathlib.Path, work: pathlib.Path) -> None:
    nvcc = _program(os.environ.get("NVCC") or "nvcc", "install CUDA or set NVCC")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise CannotBuild(
            f"the GPU kernels need TensorFlow's headers ({error}); type "
            "`TFDET_CUDA=1 pip install --no-build-isolation .` where TensorFlow is installed"
        ) from error
    compiler, kernel, launch = _compiler(), work / "pack_op_gpu.o", work / "pack_op.cu.o"
    arch = f"-arch={os.environ.get('TFDET_CUDA_ARCH', 'all-major')}"
    source = SOURCES / "pack_op.cu.cc"
    host = ("-Xcompiler", "-fPIC,-fvisibility=hidden")
    run(nvcc, "-x", "cu", "-std=c++17", "-O3", arch, *host, "-c", source, "-o", launch)
    # TensorFlow's own flags come last: they choose its C++ standard and ABI.
    quiet = ("-Wno-deprecated-declarations",)  # hundreds in TensorFlow's own headers
    flags = ("-O2", "-fPIC", "-DNDEBUG", *quiet, *tf.sysconfig.get_compile_flags())
    run(compiler, *flags, "-c", SOURCES / "pack_op_gpu.cc", "-o", kernel)
    toolkit = pathlib.Path(_toolkit(nvcc))
    folders = [f"-L{toolkit / name}" for name in ("lib64", "lib")]
    cudart = (*folders, "-lcudart_static", "-ldl", "-lrt", "-lpthread")
    objects = (kernel, launch, SOURCES / "pack_layout.cc")
    link = (*tf.sysconfig.get_link_flags(), *cudart)
    run(compiler, "-std=c++17", "-fPIC", "-shared", *objects, *link, "-o", target)


def run(*command: object) -> None:
    """Runs a compiler; what it says goes to the build's output."""
    line = [str(word) for word in command]
    print(" ".join(line), flush=True)
    try:
        subprocess.run(line, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotBuild(f"{line[0]} failed ({error})") from error


def _compiler() -> str:
    return _program(os.environ.get("CXX") or "c++", "install a C++ compiler (g++) or set CXX")


def _program(name: str, mend: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotBuild(f"{name} is not found; {mend}")
    return found


def _toolkit(nvcc: str) -> str:
    """The folder that nvcc calls TOP; `nvcc` itself may be a link or a script."""
    command = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull]
    told = subprocess.run(command, capture_output=True, text=True).stderr
    for line in told.splitlines():
        if line.startswith("#$ TOP="):
            return line.removeprefix("#$ TOP=").strip()
    raise CannotBuild(f"{nvcc} does not say where CUDA is")


def libraries() -> list[setuptools.Extension]:
    names = ["tfdet.ops.libtfdet_pack"]
    if os.environ.get("TFDET_CUDA", "0") not in ("", "0"):
        names.append("tfdet.ops.libtfdet_pack_cuda")
    sources = [str(path) for path in sorted(SOURCES.iterdir())]
    return [setuptools.Extension(name, sources, optional=True) for name in names]


setuptools.setup(ext_modules=libraries(), cmdclass={"build_ext": BuildNative})
