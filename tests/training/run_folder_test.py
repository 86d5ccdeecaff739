import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from tfdet import config
from tfdet.data import sources
from tfdet.errors import UserError
from tfdet.training import fingerprint
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
        rf"same recipe to resume \(--hparams=.*\), or another --model_dir .*--pretrained={tmp_path}"
    )
    with pytest.raises(UserError, match=message):
        folder.check(LONGER)
    assert RunFolder(tmp_path, "recipe.yaml", free=("train.num_",)).check(LONGER) == []
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


def begun(folder, **datasets):
    """A folder of 3 epochs in which a step has been done."""
    folder = RunFolder(folder, "recipe.yaml", data=fingerprint.of_all(**datasets))
    with folder.claimed(RECIPE, ""):
        folder.states.write(1, {}, {})
    return folder.path


def dataset(count, names=None):
    whole = sources.open_dataset(f"shapes:train:{count}")
    return dataclasses.replace(whole, names=np.array(list(names))) if names else whole


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (dataset(4), "data.train has 4 images, it had 6"),
        (dataset(6, "fedcba"), "data.train has images with other names"),
        (
            dataclasses.replace(dataset(6), class_names=("a", "b")),
            "the classes a, b, it had circle",
        ),
    ],
)
def test_B8_changed_data_is_refused_ahead_of_the_first_step(tmp_path, now, words):
    path = begun(tmp_path, train=dataset(6))
    folder = RunFolder(path, "recipe.yaml", data=fingerprint.of_all(train=now))
    with pytest.raises(UserError) as caught:
        folder.check(RECIPE)
    assert words in str(caught.value) and "put it back as it was to resume" in str(caught.value)
    assert f"--pretrained={path}" in str(caught.value)


def test_B8_another_order_is_told_and_data_may_change_before_the_first_step(tmp_path):
    one, two = dataset(4, "abcd"), dataset(4, "abdc")
    two = dataclasses.replace(two, image_ids=two.image_ids[[0, 1, 3, 2]])
    folder = RunFolder(begun(tmp_path, val=one), "recipe.yaml", data=fingerprint.of_all(val=two))
    with pytest.raises(UserError, match=r"data\.val has its images in another order"):
        folder.check(RECIPE)
    (tmp_path / "state" / "0000000001.npz").unlink()
    assert folder.check(RECIPE) == []


def test_P20_harmless_changes_are_said_and_others_refused(tmp_path):
    data = fingerprint.of_all(train=dataset(4), val=None)
    folder = RunFolder(begun(tmp_path, train=dataset(4)), "recipe.yaml", data=data)
    keys = "train.save_seconds=7,eval.interval=2,data.train=there,train.num_epochs=4"
    changed = config.make_recipe(["model.name=fcos-test,train.num_epochs=3", keys])
    assert folder.check(changed) == [
        "resuming with data.train: 'there' here, '' there",
        "resuming with train.num_epochs: 4 here, 3 there; the learning rate follows the longer "
        "schedule from here on",
        "resuming with train.save_seconds: 7.0 here, 300.0 there",
        "resuming with eval.interval: 2 here, 5 there",
    ]
    for key in ("train.num_epochs=2", "train.seed=1", "data.val=there"):
        other = config.make_recipe(["model.name=fcos-test,train.num_epochs=3", key])
        with pytest.raises(UserError, match=f"another recipe .{key.partition('=')[0]}"):
            folder.check(other)


@pytest.mark.parametrize("name", ["state", "logs", "pictures"])
def test_S3_links_in_the_place_of_its_folders_are_refused(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path)
    with pytest.raises(UserError, match=rf"{name} is a link, which is not followed; remove it"):
        RunFolder(tmp_path / "run", "recipe.yaml").check(RECIPE)


def test_a_link_to_nothing_is_told(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="run is a link to what is not there"):
        RunFolder(tmp_path / "run", "recipe.yaml").check(RECIPE)
