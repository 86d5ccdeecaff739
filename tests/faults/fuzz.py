"""Damaged inputs of every kind, and the commands that are given them."""

import contextlib
import dataclasses
import functools
import io
import pathlib
import random
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tests.faults import case, damage, inputs
from tests.faults.recipe_cases import TINY


@functools.cache
def _loaded() -> Any:
    """A good SavedModel."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="tfdet-fuzz-") as name:
        inputs.write_export(pathlib.Path(name))
        return tf.saved_model.load(f"{name}/s")


def serve(argv: Sequence[str]) -> int:
    """Gives the files of a folder to a served model as a client would; each has its row."""
    import tensorflow as tf

    encoded = [path.read_bytes() for path in sorted(pathlib.Path(*argv).iterdir())]
    found = _loaded().signatures["serving_encoded"](encoded=tf.constant(encoded))
    assert all(len(values) == len(encoded) for values in found.values())
    return 0


@dataclasses.dataclass(frozen=True)
class Target:
    """A command and what is damaged of its inputs.

    Attributes:
        name: what is damaged.
        weight: how often it is drawn.
        write: puts good inputs into a folder.
        argv: the command, whose paths are relative to the folder; {} is a damaged file's.
        kinds: {pattern: kind} of the files to damage, see `damage.damage`.
        count: how many of them are damaged at once; each is counted as an input.
        run: is given the command.
    """

    name: str
    weight: float
    write: Callable[[pathlib.Path], None]
    argv: tuple[str, ...]
    kinds: dict[str, str]
    count: int = 1
    run: Callable[[Sequence[str]], int] = case.run


COCO = "coco:coco.json:images"
DATA = f"--data={COCO}"
CHECK = ("tfdet-data", "check")
IMAGES = {"images/*": "bytes"}
FOLDER = {"m/*.h5": "bytes", "m/*.yaml": "text", "m/*.json": "json"}
STUDENT = {"base/*.h5": "bytes", "base/*.yaml": "text"}
_DATA_SETS = (
    Target("a COCO table", 30, inputs.write_coco, (*CHECK, COCO), {"*.json": "json"}),
    Target(
        "a COCO table, converted",
        8,
        inputs.write_coco,
        ("tfdet-data", "convert", COCO, "--output=r"),
        {"*.json": "json"},
    ),
    Target("images", 16, inputs.write_images, (*CHECK, "yolo:data.yaml:train"), IMAGES, 5),
    Target(
        "VOC's files",
        25,
        inputs.write_voc,
        (*CHECK, "voc:voc:train"),
        {"voc/Annotations/*": "text", "voc/ImageSets/Main/*": "text"},
        3,
    ),
    Target(
        "YOLO's files",
        25,
        inputs.write_yolo,
        (*CHECK, "yolo:data.yaml:train"),
        {"labels/*": "text", "data.yaml": "text"},
        2,
    ),
    Target(
        "records",
        20,
        inputs.write_records,
        (*CHECK, "tfrecord:r-*-of-00002.tfrecord"),
        {"r-*": "bytes", "*.labels.json": "json"},
    ),
)
_TRAINING = (
    Target(
        "a recipe",
        1,
        inputs.write_recipe,
        ("tfdet-train", "--hparams=recipe.yaml", "--model_dir=m"),
        {"recipe.yaml": "text"},
    ),
    Target(
        "a recipe, inspected",
        3,
        inputs.write_recipe,
        ("tfdet-inspect", "--hparams=recipe.yaml"),
        {"recipe.yaml": "text"},
    ),
    Target(
        "a backbone's encoding",
        3,
        inputs.write_search,
        ("tfdet-inspect", "--hparams=model.name=faster-rcnn-test,model.backbone=student.json"),
        {"student.json": "json"},
    ),
    Target(
        "the state of a run",
        1,
        inputs.write_run,
        ("tfdet-train", TINY, DATA, "--model_dir=m"),
        {"m/**/*": "bytes"},
    ),
    Target(
        "images to pretrain with",
        0.2,
        inputs.write_photos,
        ("tfdet-pretrain", "--hparams=recipe.yaml", "--model_dir=m"),
        {"images/**/*": "bytes"},
        4,
    ),
    Target(
        "a recipe of pretraining",
        0.5,
        inputs.write_photos,
        ("tfdet-pretrain", "--hparams=recipe.yaml", "--model_dir=m"),
        {"recipe.yaml": "text"},
    ),
)
_MODELS = (
    Target(
        "a model folder",
        1,
        inputs.write_run,
        ("tfdet-eval", "--model_dir=m", DATA),
        FOLDER,
    ),
    Target(
        "a model folder, exported",
        0.1,
        inputs.write_run,
        ("tfdet-export", "--model_dir=m", "--output=s"),
        FOLDER,
    ),
    Target(
        "a folder of a dynamic detector",
        1,
        inputs.write_dynamic,
        ("tfdet-eval", "--model_dir=m", DATA, "--effort=0.5"),
        {"m/calibration.json": "json", "m/*.yaml": "text"},
    ),
    Target(
        "weights of Keras",
        2,
        inputs.write_weights,
        ("tfdet-eval", "--model_name=efficientdet-test", DATA, "--weights={}"),
        {"w.*": "bytes"},
    ),
    Target(
        "a folder to prune",
        0.2,
        inputs.write_search,
        ("tfdet-prune", "--model_dir=base", "--output=p", "--target_share=0.9", "--floor=4"),
        STUDENT,
    ),
    Target(
        "a super-network",
        0.2,
        inputs.write_search,
        ("tfdet-extract", "--model_dir=pool", "--output=p"),
        {"pool/*.h5": "bytes", "pool/*.yaml": "text"},
    ),
    Target(
        "the folder of a search",
        0.5,
        inputs.write_search,
        ("tfdet-search", "--mode=student", "--search_dir=s"),
        {"s/search.yaml": "text", "s/candidates.jsonl": "lines", "s/weights/*": "bytes"},
    ),
)
_SERVING = (
    Target(
        "photographs",
        1,
        inputs.write_export,
        ("tfdet-infer", "--saved_model=s", "--input=photos/*", "--output_dir=o"),
        {"photos/*": "bytes"},
        30,
    ),
    Target("served images", 2, inputs.write_images, ("images",), IMAGES, 16, serve),
    Target(
        "a SavedModel",
        1,
        inputs.write_export,
        ("tfdet-infer", "--saved_model=s", "--input=photos/1.png", "--output_dir=o"),
        {"s/**/*": "bytes", "s/**/*.json": "json"},
    ),
)
TARGETS = (*_DATA_SETS, *_TRAINING, *_MODELS, *_SERVING)


def write_all() -> None:
    """Makes all good inputs, and loads what commands load, so that no case waits for that."""
    for write in dict.fromkeys(target.write for target in TARGETS):
        with tempfile.TemporaryDirectory(prefix="tfdet-fuzz-") as name:
            write(pathlib.Path(name))
    _loaded()


def target_of(seed: int, number: int) -> tuple[Target, random.Random]:
    """What is damaged in a case, and what draws how."""
    chance = random.Random(f"{seed} {number}")
    return chance.choices(TARGETS, [t.weight for t in TARGETS])[0], chance


def write_case(seed: int, number: int, folder: pathlib.Path) -> tuple[Target, tuple[str, ...], int]:
    """Writes the inputs of a case into an empty folder.

    Returns:
        The target, its command line, and how many inputs are damaged.
    """
    target, chance = target_of(seed, number)
    target.write(folder)
    kinds = {
        path: kind
        for pattern, kind in target.kinds.items()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
    chosen = chance.sample(sorted(kinds), min(target.count, len(kinds)))
    for path in chosen:
        path.write_bytes(damage.damage(path.read_bytes(), kinds[path], chance))
    first = str(chosen[0].relative_to(folder))
    return target, tuple(word.replace("{}", first) for word in target.argv), len(chosen)


def run_case(seed: int, number: int) -> tuple[str, int, str]:
    """Runs a case.

    Returns:
        What was damaged, how many files of it, and how it ended badly; "" where it ended well.
    """
    with tempfile.TemporaryDirectory(prefix="tfdet-fuzz-") as name:
        target, argv, count = write_case(seed, number, pathlib.Path(name))
        with inputs.inside(name):
            return target.name, count, _ends_badly(target, argv)


def _ends_badly(target: Target, argv: tuple[str, ...]) -> str:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            target.run(argv)
    except BaseException:
        return traceback.format_exc()
    text = printed.getvalue()
    return text if "Traceback (most recent" in text else ""
