import dataclasses
import subprocess
import sys

import pytest

from tfdet import config
from tfdet.errors import UserError
from tfdet.training.run_folder import RunFolder

RECIPE = config.make_recipe(["model.name=fcos-test,train.num_epochs=3"])
LONGER = config.make_recipe(["model.name=fcos-test,train.num_epochs=4"])


def test_a_claimed_folder_has_the_recipe_and_what_was_typed(tmp_path):
    folder = RunFolder(tmp_path / "a" / "run", "recipe.yaml")
    folder.check(RECIPE)
    assert not folder.path.exists()
    with folder.claimed(RECIPE, "tfdet-train --flag"):
        assert config.load_recipe(folder.recipe_file) == RECIPE
        assert (folder.path / "command.txt").read_text() == "tfdet-train --flag\n"
        assert folder.states.read() is None
    with folder.claimed(RECIPE, ""):
        assert (folder.path / "command.txt").read_text() == "tfdet-train --flag\n"


def test_another_recipe_is_refused_with_the_ways_on(tmp_path):
    folder = RunFolder(tmp_path, "recipe.yaml")
    with folder.claimed(RECIPE, ""):
        pass
    folder.check(RECIPE)
    message = (
        rf"{tmp_path} was begun with another recipe \(train.num_epochs: 4 here, 3 there\); use the "
        rf"same recipe to resume, or another --model_dir .*--pretrained={tmp_path}"
    )
    with pytest.raises(UserError, match=message):
        folder.check(LONGER)
    RunFolder(tmp_path, "recipe.yaml", free=("train.num_",)).check(LONGER)
    with pytest.raises(UserError, match="num_epochs"):
        RunFolder(tmp_path, "recipe.yaml", free=("data.", "train.batch")).check(LONGER)


@dataclasses.dataclass(frozen=True)
class Other:
    seed: int = 0


def test_other_recipes_have_no_weights_to_start_from(tmp_path):
    folder = RunFolder(tmp_path, "other.yaml", Other, "--other_dir")
    with folder.claimed(Other(), ""):
        pass
    with pytest.raises(UserError, match=r"another --other_dir to start again$"):
        folder.check(Other(1))


def test_two_processes_cannot_claim_a_folder(tmp_path):
    folder = RunFolder(tmp_path, "other.yaml", Other)
    code = (
        "import sys; from tests.training.run_folder_test import *\n"
        "with RunFolder(sys.argv[1], 'other.yaml', Other).claimed(Other(), ''): pass"
    )
    with folder.claimed(Other(), ""):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
        )
    assert done.returncode and f"another process is training in {tmp_path}" in done.stderr
    with folder.claimed(Other(), ""):  # the lock is gone with the block
        pass


def test_a_process_that_does_not_write_makes_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run", "other.yaml", Other, is_writer=False)
    folder.check(Other())
    with folder.claimed(Other(), "typed"):
        assert not folder.path.exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(UserError, match=rf"--model_dir=.*{path}: .*file is a file; give a f"):
            RunFolder(tmp_path / path, "other.yaml", Other).check(Other())
