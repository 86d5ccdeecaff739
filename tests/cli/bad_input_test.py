"""Mistakes of users in flags, recipes and folders, one by one, through the commands.

Each ends with the right exit code and one sentence that names what is wrong and how to mend it;
nothing is lost and nothing is left half written. Data sets and images: `bad_data_test.py`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import yaml

from tfdet.data import sources

TINY = "model.name=efficientdet-test,train.batch_size=2,train.num_epochs=1,train.warmup_epochs=0"


# Flags


@pytest.mark.parametrize(
    ("command", "line", "code", "piece"),
    [
        ("train", "--modle_dir=x", 2, "no flag --modle_dir; did you mean --model_dir?"),
        ("train", "--data=shapes", 2, "--model_dir must be given"),
        ("train", "--model_dir= --data=shapes", 2, "--model_dir must be given"),
        ("train", "--model_dir=m data=shapes", 2, "'data=shapes' is not understood"),
        ("train", "--model_dir=m", 1, "no training data: give --data or data.train"),
        ("train", "--model_dir=m --batch_size=-3", 2, "--batch_size must be above 0, got -3"),
        ("train", "--model_dir=m --num_epochs=0", 2, "--num_epochs must be above 0, got 0"),
        ("train", "--model_dir=m --batch_size=big", 2, "must be a whole number, got 'big'"),
        ("train", "--model_dir=m --mode=trian", 2, "one of train, eval, traineval, got 'trian'"),
        ("train", "--model_dir=m --mode=eval --data=shapes", 2, "--mode=eval takes no --data"),
        ("train", "--model_dir=m --mode=train --val_data=shapes", 2, "--val_data has no use"),
        ("train", "--model_dir=m --model_name=efficientdet-d00", 1, "mean 'efficientdet-d0'?"),
        ("train", "--model_dir=m --strategy=mirored", 2, "--strategy must be one of"),
        ("inspect", "--image_size=12 --model_name=efficientdet-d0", 2, "HEIGHT,WIDTH in pixels"),
        ("inspect", "--image_size=512x512x3", 2, "HEIGHT,WIDTH in pixels, got 512x512x3"),
        ("inspect", "--image_size=64,64", 2, "--image_size needs a model"),
        ("inspect", "--image_size=4,4 --model_name=efficientdet-d0", 1, "at least 8 on each side"),
        ("inspect", "--model_name=zzz", 1, "unknown model 'zzz'; known: "),
        ("eval", "--model_dir=/nonexist", 1, "there is no folder /nonexist"),
        ("eval", "--model_dir=", 2, "give --model_dir or --model_name"),
        ("eval", "--model_dir=a --batch_size=2.5", 2, "must be a whole number, got '2.5'"),
        ("eval", "--model_name=efficientdet-d0 --weights=/", 2, "/ is a folder"),
        ("infer", "--model_dir=a --saved_model=b --input=c --output_dir=d", 2, "only one of"),
        ("infer", "--model_dir=a --input=c --output_dir=d --min_score=nan", 2, "0 and 1, got nan"),
        ("infer", "--model_dir=a --input=c --output_dir=d --min_score=x", 2, "must be a number"),
        ("infer", "--model_dir=a --input=/no/*.jpg --output_dir=d", 1, "no file matches --input=/"),
        ("export", "--model_dir=/nonexist --output=b", 1, "there is no folder /nonexist"),
        ("export", "--model_dir=a --output=b --format=coreml", 2, "saved_model, litert, onnx"),
        ("data", "mkae shapes", 2, "expected make, convert, check, view or suggest, got 'mkae'"),
        ("data", "check --data=", 2, "expected one data set, got 0"),
        ("data", "convert shapes:val:2 --output=r --num_shards=0", 2, "--num_shards must be above"),
        ("data", "convert shapes:val:2 --output=r --num_shards=9", 1, "expected 1 to 2 shards"),
        ("data", "make shapes --output=d --split=tset", 2, "one of train, val, got 'tset'"),
    ],
)
def test_wrong_flags(refused, tmp_path, monkeypatch, command, line, code, piece):
    monkeypatch.chdir(tmp_path)
    refused(command, line.split(), piece, code=code)
    assert not list(tmp_path.iterdir())


def test_console_script_prints_no_traceback(tmp_path):
    # Neither comes as far as TensorFlow.
    for line, code in (
        ("infer --model_dir=a --input=/no/*.jpg --output_dir=d", 1),
        ("train --modle_dir=x", 2),
    ):
        command, *flags = line.split()
        call = [sys.executable, "-m", f"tfdet.cli.{command}", *flags]
        done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == code
        assert done.stderr.startswith(f"tfdet-{command}: ")
        assert done.stderr.count("\n") == 1


# Recipes


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (bytes(range(256)), "recipe.yaml is not a text file"),
        ("train: {}".encode("utf-16"), "recipe.yaml is not a text file"),
        ("model: {name: [\n", "recipe.yaml is not YAML in line 2"),
        ("model:\n\tname: x\n", "recipe.yaml is not YAML in line 2"),
        ("train: {seed: 1}\ntrain: {seed: 2}\n", "line 2: the key 'train' stands twice"),
        ("train: !!python/object/apply:os.getcwd []", "recipe.yaml is not YAML in line 1"),
        ("- train", "must have sections such as data and train"),
        ("trian: {seed: 1}", "unknown key 'trian'; did you mean 'train'?"),
        ("train: {bach_size: 1}", "unknown key 'train.bach_size'; did you mean 'batch_size'?"),
        ("train: {batch_size: two}", "train.batch_size must be a whole number, got 'two'"),
        ("train: {batch_size: 2.5}", "train.batch_size must be a whole number, got 2.5"),
        ("train: 3", "train must be a mapping of keys, got 3"),
        ("train: {learning_rate: -1}", "train.learning_rate must be at least 0, got -1"),
        ("train: {learning_rate: .nan}", "train.learning_rate must be at least 0, got nan"),
        ("train: {optimizer: sdg}", "train.optimizer must be one of 'sgd', 'nesterov'"),
        ("train: {num_epochs: 1, warmup_epochs: 3}", "train.warmup_epochs must be below"),
        ("train: {seed: 5000000000}", "train.seed must be below 2**32"),
        ("train: {frozen: '('}", "train.frozen is not a regular expression"),
        ("data: {augment: {flipp: 1}}", "unknown key 'data.augment.flipp'; did you mean 'flip'?"),
        ("data: {augment: {mosaic: 7}}", "augment.mosaic must be a probability"),
        ("model: efficientdet-d0", "model must be a mapping, got 'efficientdet-d0'"),
        ("model: {name: 3}", "the name of a model must be text, got 3"),
        ("model: {name: efficientdet-d0x}", "did you mean 'efficientdet-d0'?"),
        ("model: {image_sise: [64, 64]}", "'model.image_sise'; did you mean 'image_size'?"),
        ("model: {image_size: 512}", "model.image_size must be a list of 2 values, got 512"),
        ("model: {image_size: [1, 2, 3]}", "model.image_size must have 2 values, got 3"),
        ("model: {fpn: bifnp}", "unknown feature network 'bifnp'; use one of bifpn"),
        ("model: {backbone: b77}", "unknown EfficientNet 'b77'"),
        ("model: {activation: swich}", "unknown activation 'swich'; use one of swish"),
        ("model: {fpn_width: -3}", "fpn_width must be at least 1, got -3"),
        ("model: {name: fcos-test, backbone: none.json}", "encoding none.json cannot be read"),
        ("model: {name: fcos-test, backbone: '[[[8, 8]]]'}", "must have 4 stages, got 1"),
        ("model: {name: fcos-test, backbone: {stagse: []}}", "'model.backbone.stagse'; did you"),
        ("model: {weight_decay: -1}", "weight_decay must be at least 0"),
        ("model: {aspect_ratios: [0]}", "aspect ratios and scales above 0"),
        ("model: {nms: {method: sotf}}", "model.nms.method must be one of"),
        ("model: {loss: {gama: 2}}", "unknown key 'model.loss.gama'; did you mean 'gamma'?"),
        ("model: {num_classes: 3}", "model.num_classes is 3, but shapes:train has 5 classes"),
        ("model: {class_names: [ant, bee]}", "expected classes (ant, bee), but shapes:train has"),
        ("train: {batch_size: 9}", "has 4 images, fewer than one batch of 9"),
    ],
)
def test_broken_recipes(refused, tmp_path, content, piece):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    model_dir = tmp_path / "model"
    argv = (f"--hparams={path}", f"--model_dir={model_dir}", "--data=shapes:train:4")
    refused("train", argv, piece)
    assert not model_dir.exists()


def test_a_section_with_all_keys_commented_out_keeps_the_defaults(refused, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model:\n  # name: efficientdet-d1\ntrain: {batch_size: 9}\n")
    argv = (f"--hparams={path}", f"--model_dir={tmp_path}/m", "--data=shapes:train:4")
    refused("train", argv, "fewer than one batch of 9")


@pytest.mark.parametrize(
    ("hparams", "piece"),
    [
        ("/no/such.yaml", "recipe /no/such.yaml cannot be read: No such file"),
        ("recipe.txt", "a .yaml file or key=value pairs with commas between"),
        ("train.batch_size=", "train.batch_size must be a whole number, got None"),
        ("train.batch_size=[", "the value of train.batch_size cannot be read: '['"),
        ("a.b.c=1", "unknown key 'a'; known: data, eval, model, train"),
        ("model.name.x=3", "the name of a model must be text"),
        ("train=5", "train must be a mapping of keys, got 5"),
    ],
)
def test_broken_hparams(refused, tmp_path, hparams, piece):
    argv = (f"--hparams={hparams}", f"--model_dir={tmp_path}/m", "--data=shapes:train:4")
    refused("train", argv, piece)
    assert not list(tmp_path.iterdir())


def test_recipe_that_is_a_folder(refused, tmp_path):
    (tmp_path / "r.yaml").mkdir()
    argv = (f"--hparams={tmp_path}/r.yaml", f"--model_dir={tmp_path}/m")
    refused("train", argv, "r.yaml cannot be read: Is a directory")


# Model folders and weights


@pytest.fixture
def copied(model_dir, tmp_path):
    """A training folder that may be damaged."""
    return Path(shutil.copytree(model_dir, tmp_path / "copied"))


@pytest.mark.parametrize(
    ("share", "content"), [(0.0, b""), (0.5, b""), (0.99, b""), (0.0, b"not weights")]
)
def test_damaged_weights(refused, copied, share, content):
    path = copied / "last.weights.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))] + content)
    refused("eval", (f"--model_dir={copied}",), "last.weights.h5 is damaged (")


def test_damaged_pretrained_weights(refused, copied, tmp_path):
    path = copied / "last.weights.h5"
    path.write_bytes(path.read_bytes()[:5000])
    argv = (f"--hparams={TINY}", f"--model_dir={tmp_path}/m", "--data=shapes:train:4")
    for source in (copied, path):
        refused("train", (*argv, f"--pretrained={source}"), "last.weights.h5 is damaged (")
    assert not (tmp_path / "m").exists()


def test_model_folders_that_are_none(refused, copied):
    recipe = copied / "recipe.yaml"
    text = recipe.read_text()
    argv = (f"--model_dir={copied}",)
    for content, piece in (
        ("model: [", "recipe.yaml is not YAML"),
        ("", "recipe.yaml is cut or empty: it has no section 'model'"),
        (text.replace("num_classes: 5", "num_classes: 5\n  fpn_width: 24"), "does not hold"),
    ):
        recipe.write_text(content)
        refused("eval", argv, piece)
    recipe.write_text(text)
    (copied / "last.weights.h5").unlink()
    refused("eval", argv, "copied has no weights yet")
    recipe.unlink()
    refused("eval", argv, "copied is not a training folder: it has no recipe.yaml")
    refused("eval", (f"--model_dir={copied}/gone",), "there is no folder")


@pytest.mark.parametrize(
    ("source", "piece"),
    [
        ("/no/such", "weights /no/such do not exist"),
        ("{}/recipe.yaml", "cannot be read as weights: "),
        ("{}/last.weights.h5", "of a training folder in its place, all weights that fit"),
    ],
)
def test_pretrained_weights_that_do_not_fit(refused, model_dir, tmp_path, source, piece):
    argv = (f"--hparams={TINY},model.fpn_width=24", f"--model_dir={tmp_path}/m")
    source = source.format(model_dir)
    refused("train", (*argv, "--data=shapes:train:4", f"--pretrained={source}"), piece)
    assert not (tmp_path / "m").exists()


def test_training_folders_that_cannot_be_used(refused, copied, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    train = (f"--hparams={TINY}", "--data=shapes:train:4")
    refused("train", (*train, f"--model_dir={file}"), "file is a file; give a folder")
    refused("train", (*train, f"--model_dir={file}/below"), "file is a file; give a folder")
    refused("train", (*train, "--model_dir=/proc/model"), "/proc/model")
    assert file.read_text() == "mine"
    before = (copied / "recipe.yaml").read_bytes()
    refused("train", (*train, f"--model_dir={copied}"), "was begun with another recipe", "data.val")
    assert (copied / "recipe.yaml").read_bytes() == before


def test_half_written_states(run, copied):
    (copied / "state").mkdir()
    junk = copied / "state" / "0000000001.npz"
    junk.write_bytes(b"PK\x03\x04 half a file")
    recipe = yaml.safe_load((copied / "recipe.yaml").read_text())
    recipe["data"].update(train="shapes:train:64", val="")
    (copied / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    weights = (copied / "last.weights.h5").read_bytes()
    code, output, errors = run("train", f"--hparams={copied}/recipe.yaml", f"--model_dir={copied}")
    assert code == 1
    assert "state" in output and "is damaged" in output
    assert "remove the folder to start again" in errors[-1]
    assert junk.exists() and (copied / "last.weights.h5").read_bytes() == weights


# Output


def test_pictures_never_overwrite_images(refused, model_dir, tmp_path):
    (tmp_path / "a.jpg").write_bytes(sources.open_dataset("shapes:val:1").encoded(0))
    before = (tmp_path / "a.jpg").read_bytes()
    argv = (f"--model_dir={model_dir}", f"--input={tmp_path}/a.jpg")
    refused("infer", (*argv, f"--output_dir={tmp_path}"), "a.jpg of --input, which would be over")
    refused("infer", (*argv, f"--output_dir={tmp_path}/a.jpg"), "is a file; give a folder")
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_export_keeps_what_it_did_not_write(refused, model_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    argv = (f"--model_dir={model_dir}",)
    for name in ("mine", "file"):
        refused("export", (*argv, f"--output={tmp_path / name}"), "is not a SavedModel")
    refused("export", (*argv, f"--output={tmp_path}/file/below"), "file")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_saved_models_that_are_not_ours(refused, tmp_path):
    (tmp_path / "a.jpg").write_bytes(sources.open_dataset("shapes:val:1").encoded(0))
    module = tf.Module()
    module.identity = tf.function(lambda x: x, input_signature=[tf.TensorSpec([])], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "foreign"))
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "saved_model.pb").write_bytes(b"junk")
    for name, piece in (
        ("gone", "is not a SavedModel: there is no such folder"),
        ("foreign", "was not written by tfdet-export"),
        ("junk", "cannot be loaded; export it again"),
    ):
        argv = (f"--saved_model={tmp_path / name}", f"--input={tmp_path}/a.jpg")
        refused("infer", (*argv, f"--output_dir={tmp_path}/found"), piece)
    assert not (tmp_path / "found").exists()
