"""What is installed: recipes, weights and pages travel in the wheel, and are found from there."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What is made here and must not travel, or is built by the installation.
MADE = {".py", ".pyc", ".so"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as a wheel holds it, without the native library."""
    pytest.importorskip("setuptools", reason="setuptools builds the package")
    folder = tmp_path_factory.mktemp("build")
    bases = ("build", f"--build-base={folder / 'base'}", "egg_info", f"--egg-base={folder}")
    command = ("-q", *bases, "build_py", f"--build-lib={folder / 'lib'}")
    subprocess.run([sys.executable, "setup.py", *command], cwd=ROOT, check=True)
    return folder / "lib"


def test_recipes_weights_and_pages_travel_with_the_package(installed):
    here, there = (
        {
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in MADE
        }
        for root in (ROOT / "tfdet", installed / "tfdet")
    )
    assert "recipes/efficientdet/nano_shapes.yaml" in here
    assert here == there


def test_all_modules_and_nothing_else_is_a_package(installed):
    here = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tfdet").rglob("*.py")}
    there = {p.relative_to(installed).as_posix() for p in installed.rglob("*.py")}
    assert here == there


def test_a_recipe_is_found_by_name_where_the_package_is_installed(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = "from tfdet.cli import train; train.run()"
    found = subprocess.run(
        [sys.executable, "-c", program, "--list_recipes"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "efficientdet/nano_shapes " in found.stdout
    where = "import tfdet.recipes.catalog as c; print(c.path('detr/r50_coco'))"
    printed = subprocess.check_output([sys.executable, "-c", where], cwd=tmp_path, env=environment)
    assert printed.decode().startswith(str(installed))
