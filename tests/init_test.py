"""The public names of the package."""

import subprocess
import sys

import pytest

import tfdet

PUBLIC = [
    "Detector",
    "Dynamic",
    "UserError",
    "__version__",
    "create",
    "data",
    "detect",
    "evaluate",
    "export",
    "list_models",
    "load_model",
    "load_trained",
    "open_dataset",
    "open_exported",
    "profile",
]


def test_the_public_names_are_these_and_all_are_there():
    assert sorted(tfdet.__all__) == PUBLIC == sorted(dir(tfdet))
    for name in PUBLIC:
        assert getattr(tfdet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Model'"):
        _ = tfdet.Model


def test_importing_it_costs_nothing():
    program = (
        "import sys, tfdet\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
