"""The pages that the documentation makes from the code leave nothing out."""

import importlib.util
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import tfdet
from tfdet import config, registry
from tfdet.recipes import catalog

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    path = ROOT / "docs" / "hooks" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_of_every_recipe_is_listed_with_its_meaning(reference):
    page = reference.keys_page()
    records = {type(registry.config(name)) for name in registry.list_models()}
    records = {record for record in records if record.__module__.startswith("tfdet.")}
    records |= {config.TrainConfig, config.DataConfig, config.EvalConfig}
    for record in records:
        for _, part in reference.parts(record, "x"):
            for key in reference.keys(part):
                assert key.meaning, f"{part.__name__}.{key.name} has no entry in its docstring"
                assert f"| `{key.name}` | {key.type} | {key.default} | {key.meaning} |" in page


def test_defaults_and_choices_are_those_of_the_code(reference):
    rows = {key.name: key for key in reference.keys(config.TrainConfig)}
    assert rows["learning_rate"].default == "`0.08`"
    assert "`half_cosine`" in rows["schedule"].type and "`constant`" in rows["schedule"].type


def test_every_command_is_listed_with_its_flags(reference):
    scripts = re.findall(r"^tfdet-(\w+) = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted(reference.COMMANDS) == sorted(scripts)
    page = reference.commands_page()
    assert "## `tfdet-train`" in page and "| `--model_dir` |" in page
    assert "| `--[no]list_recipes` |" in page


def test_every_recipe_is_listed(reference):
    page = reference.recipes_page()
    assert all(f"| `{name}` |" in page for name in catalog.names())


def test_every_package_has_its_page_of_the_api(reference):
    packages = {found.name for found in pkgutil.iter_modules(tfdet.__path__) if found.ispkg}
    assert set(reference.PACKAGES) == packages - {"cli", "recipes"}
    pages = reference.api_pages()
    assert "::: tfdet.losses.focal\n" in pages["losses"]
    assert "[`tfdet.create`][tfdet.weights.loading.create]" in pages["public"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="the site needs pip install 'tfdet[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    subprocess.run(command, cwd=ROOT, check=True)
    for page in ("index.html", "reference/keys.html", "reference/api/detectors.html"):
        assert (tmp_path / page).stat().st_size > 10_000
