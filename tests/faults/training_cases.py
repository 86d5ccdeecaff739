"""Faults of tfdet-train, tfdet-pretrain, and of the folders and weights that they write."""

import csv
import functools
import json
import os
import pathlib
import shutil
import tempfile

import h5py
import numpy as np
from PIL import Image

from tests.faults import case as faults
from tests.faults.case import Case

TINY = (
    "--hparams=model.name=efficientdet-test,model.image_size=[64,64],train.batch_size=2,"
    "train.num_epochs=3,train.warmup_epochs=1,eval.interval=3,eval.pictures=1",
    "--model_dir=m",
)
DATA = ("--data=coco:data/train.json:data", "--val_data=coco:data/train.json:data")
TRAIN = ["tfdet-train", *TINY, *DATA]


def _write_data(folder: pathlib.Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(6)]
    for image in images:
        pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
    boxes = [
        {"id": i + 1, "image_id": i, "category_id": 1 + i % 2, "bbox": [9, 9, 30, 30]}
        | {"area": 900, "iscrowd": 0}
        for i in range(6)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))


@functools.cache
def _trained() -> pathlib.Path:
    """A folder with `data` and a finished training `m`."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tfdet-faults-"))
    _write_data(folder / "data")
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        assert faults.run(TRAIN) == 0
    finally:
        os.chdir(before)
    return folder


def _copy(folder: pathlib.Path) -> None:
    shutil.copytree(_trained(), folder, dirs_exist_ok=True)


def after(change, argv=TRAIN):
    """The command line `argv` in a copy of `_trained`, with a change of it."""

    def make(folder):
        _copy(folder)
        change(folder)
        return argv

    return make


def _change_data(change):
    def of(folder):
        path = folder / "data" / "train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return of


def _rename_a_picture(folder):
    os.rename(folder / "data" / "0.png", folder / "data" / "new.png")
    _change_data(lambda content: content["images"][0].update(file_name="new.png"))(folder)


def _change_facts(change):
    """Facts of the newest state, which `change` gets as they are in the file."""

    def of(folder):
        path = max((folder / "m" / "state").glob("*.npz"))
        with np.load(path) as archive:
            arrays = dict(archive)
        facts = change(json.loads(arrays["facts"].tobytes()))
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(path, **arrays)

    return of


def _flip_a_weight(folder):
    path = folder / "m" / "best.weights.h5"
    with h5py.File(path) as file:
        places = []
        file.visititems(lambda name, item: places.append(getattr(item, "id", None)))
        offset = max(
            place.get_offset() or 0 for place in places if isinstance(place, h5py.h5d.DatasetID)
        )
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def _break_weights(folder):
    for path in (folder / "m").glob("*.weights.h5"):
        with h5py.File(path, "r+") as file:
            del file.attrs["tfdet_sha256"]  # as if another program had written it

            def break_it(name, item):
                if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                    item[...] = np.nan

            file.visititems(break_it)


def _link(name, target="victim.txt"):
    def of(folder):
        (folder / "victim.txt").write_text("mine")
        path = folder / "m" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(folder / target)

    return of


def _rates_fall(folder):
    with open(folder / "m" / "logs" / "history.csv") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    # The first epoch is the warm-up.
    assert len(rates) == 3 and rates[0] > rates[1] > rates[2], rates
    assert rates[2] < 1e-6, rates


def _move_data(folder):
    _copy(folder)
    os.rename(folder / "data", folder / "elsewhere")
    data = [word.replace(":data", ":elsewhere") for word in DATA]
    return [*TRAIN, *data, "--num_epochs=4", "--hparams=eval.interval=2"]


def _one_class(folder):
    _write_data(folder / "data")
    shutil.move(folder / "data", folder / "images" / "data")
    return ["tfdet-pretrain", "--hparams=model.name=caddet-test", "--data=images", "--model_dir=m"]


def _photographs(kinds, *flags):
    """`tfdet-pretrain` with two classes of two pictures each in these kinds of files."""

    def make(folder):
        for name in ("cat", "dog"):
            (folder / "images" / name).mkdir(parents=True)
            for i, kind in enumerate(kinds):
                pixels = np.full((40, 40, 3), 60 * i, np.uint8)
                Image.fromarray(pixels).save(folder / "images" / name / f"{i}.{kind}")
        recipe = "model.name=caddet-test,data.image_size=[32,32],train.num_epochs=1"
        flags_too = (f"--hparams={recipe},train.warmup_epochs=0", "--data=images", *flags)
        return ["tfdet-pretrain", *flags_too, "--model_dir=m"]

    return make


def _router(folder):
    _write_data(folder / "data")
    router = "model.name=dy-efficientdet-test,model.step=router,train.batch_size=2"
    return ["tfdet-train", f"--hparams={router}", *DATA, "--model_dir=m"]


CASES = [
    Case(
        "B1 the rate of a short run falls to the end",
        after(lambda folder: None),
        code=0,
        says="trained 3 epochs",
        after=_rates_fall,
    ),
    Case(
        "B8 an image removed between two runs of a folder",
        after(_change_data(lambda content: content["images"].pop())),
        says=r"m was begun with other data \(data.train has 5 images, it had 6.*--pretrained=m,",
    ),
    Case(
        "B8 a picture under another name between two runs of a folder",
        after(_rename_a_picture),
        says="data.train has images with other names.* put it back as it was to resume",
    ),
    Case(
        "B8 a class renamed between two runs of a folder",
        after(_change_data(lambda content: content["categories"][0].update(name="cow"))),
        says=r"another recipe \(model.class_names: \['cow', 'dog'\] here, \['cat', 'dog'\] there",
    ),
    Case(
        "P20 another seed",
        after(lambda folder: None, [*TRAIN, "--hparams=train.seed=1"]),
        says=r"another recipe \(train.seed: 1 here, 0 there\).*--hparams=m/recipe.yaml.*"
        r"--pretrained=m, from the weights in it",
    ),
    Case(
        "P20 more epochs, another interval and data that were moved",
        _move_data,
        code=0,
        says=(
            "resuming with data.train: 'coco:elsewhere/.* here, 'coco:data/.* there",
            "resuming with train.num_epochs: 4 here, 3 there; the learning rate follows the long",
            "resuming with eval.interval: 2 here, 3 there",
            "resuming at step 9 of 12",
            "trained 4 epochs",
        ),
    ),
    Case(
        "B13 a flipped bit in weights",
        after(_flip_a_weight, ["tfdet-eval", "--model_dir=m"]),
        says=r"m/best.weights.h5 is damaged: its values are not those that were written",
    ),
    Case(
        "B13 weights that are no numbers",
        after(_break_weights, ["tfdet-export", "--model_dir=m", "--output=e"]),
        says=r"m/best.weights.h5 holds values that are not numbers .*lower train.learning_rate",
        leaves=(),
    ),
    Case(
        "P5 weights of other classes",
        after(
            _change_data(lambda content: content["categories"].append({"id": 3, "name": "cow"})),
            [
                *(TRAIN[0], TINY[0], *DATA, "--model_dir=n"),
                "--pretrained=m/last.weights.h5",
            ],
        ),
        says=r"last.weights.h5 does not hold the weights of this model: \d+ of \d+ arrays have "
        r"another shape, such as .*other classes or sizes.*of a training folder in its place",
    ),
    Case(
        "S3 a lock that is a link",
        after(_link(".lock")),
        says=r"m/.lock is a link, which is not followed; remove it",
        keeps=("victim.txt",),
    ),
    Case(
        "S3 links under the temporary names of before",
        after(_link(".tmp-recipe.yaml")),
        code=0,
        keeps=("victim.txt",),
    ),
    Case(
        "S3 a folder for the state that is a link",
        after(_link("state", target="data")),
        says=r"m/state is a link, which is not followed; remove it",
    ),
    Case(
        "B22 a state whose facts are a list",
        after(_change_facts(lambda facts: [facts])),
        code=0,
        says=r"state m/state/0000000009.npz is damaged \(its facts are list",
        is_slow=True,  # `checkpoint_test` has the state alone
    ),
    Case(
        "B22 a state of step -5",
        after(_change_facts(lambda facts: {**facts, "step": -5})),
        says="the saved state has facts that no run wrote .*remove the newest file",
    ),
    Case(
        "B22 a state of step 500 of 9",
        after(_change_facts(lambda facts: {**facts, "step": 500})),
        says="the state in m is of step 500, and the training has 9",
    ),
    Case(
        "B2 a batch of more images than there are",
        after(lambda folder: None, ["tfdet-eval", "--model_dir=m", "--batch_size=200000"]),
        code=0,
        says="AP50",
    ),
    Case(
        "B10 a router step without trained detectors",
        _router,
        says="model.step=router trains a router between two detectors .* as --pretrained",
        leaves=(),
    ),
    Case(
        "P25 pre-training with one class",
        _one_class,
        says="images has one class only, 'data', and so nothing to tell apart",
        leaves=(),
    ),
    Case(
        "P11 pictures to pretrain with in formats that are not read",
        _photographs(("png", "tif"), "--batch_size=8"),
        says=(
            r"images: 2 x picture in a format that is not read -> left out; save it as JPEG or PNG "
            r"\(images/cat/1.tif, images/dog/1.tif\)",
            "images has 2 images, fewer than one batch of 8; lower train.batch_size",
        ),
        leaves=(),
    ),
    Case(
        "P11 nothing but pictures to pretrain with in formats that are not read",
        _photographs(("tif", "tif")),
        says=(
            "images: 4 x picture in a format that is not read",
            "images has no folder with images",
        ),
        leaves=(),
    ),
]
