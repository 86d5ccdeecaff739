"""Mistakes and hostile inputs of `tfdet-infer`, `tfdet-eval`, `tfdet-export` and of all flags."""

import functools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import h5py
import numpy as np
from PIL import Image

from tests.faults.case import Case

CLASSES = ("circle", "square", "triangle", "star", "cross")


@functools.cache
def _folder() -> pathlib.Path:
    """Lives as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="tfdet-serving-")
    _kept.append(folder)
    return pathlib.Path(folder.name)


_kept: list[tempfile.TemporaryDirectory] = []


@functools.cache
def trained() -> pathlib.Path:
    """A folder as training leaves it, with random weights for images of 64x64."""
    from tfdet import config, registry
    from tfdet.training import trained as trained_lib

    folder = _folder() / "run"
    folder.mkdir()
    changes = {
        "model.name": "efficientdet-test",
        "model.num_classes": len(CLASSES),
        "model.class_names": list(CLASSES),
        "model.class_ids": list(range(1, len(CLASSES) + 1)),
        "data.train": "shapes:train:8",
        "data.val": "shapes:val:4",
    }
    recipe = config.make_recipe(changes=changes)
    config.save_recipe(recipe, folder / trained_lib.RECIPE_FILE)
    settings = {key: value for key, value in recipe.model.items() if key != "name"}
    registry.create("efficientdet-test", **settings).save_weights(folder / "last.weights.h5")
    return folder


@functools.cache
def exported() -> pathlib.Path:
    """A SavedModel of `trained`, not compared with it, which takes a process of its own."""
    from tfdet.serving import export
    from tfdet.training import trained as trained_lib

    path = _folder() / "saved_model"
    export._save(trained_lib.load_trained(str(trained())), path, native_ops=False)
    return path


def photo(path: pathlib.Path, size: tuple[int, int] = (48, 40)) -> pathlib.Path:
    """A picture with something in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def infer(*argv: str) -> list[str]:
    return ["tfdet-infer", f"--saved_model={exported()}", "--output_dir=out", *argv]


def evaluate(*argv: str) -> list[str]:
    return ["tfdet-eval", f"--model_dir={trained()}", "--data=shapes:val:2", *argv]


def entries(folder: pathlib.Path) -> list[dict]:
    return json.loads((folder / "out" / "detections.json").read_text())


def _twice(folder: pathlib.Path) -> list[str]:
    for name in ("a/x.jpg", "a/x.png", "b/x.jpg", "c/x~2.jpg"):
        photo(folder / "twice" / name)
    return infer("--input=twice/**/*.*")


def _four_pictures(folder: pathlib.Path) -> None:
    names = {entry["picture"] for entry in entries(folder)}
    assert len(names) == 4
    assert {path.name for path in (folder / "out").glob("*.jpg")} == names


def _again(*argv: str):
    def make(folder: pathlib.Path) -> list[str]:
        photo(folder / "photos" / "new.png")
        (folder / "out").mkdir()
        photo(folder / "out" / "old.jpg")
        photo(folder / "out" / "mine.jpg")
        (folder / "out" / "detections.json").write_text('[{"picture": "old.jpg"}]')
        return infer("--input=photos", *argv)

    return make


def _cleared(folder: pathlib.Path) -> None:
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {"new.jpg", "mine.jpg", "detections.json"}


def _in_the_way(name: str, content: bytes):
    def make(folder: pathlib.Path) -> list[str]:
        photo(folder / "photos" / "a.png")
        (folder / "out").mkdir()
        (folder / "out" / name).write_bytes(content)
        return infer("--input=photos", "--overwrite")

    return make


def _named_like_a_pattern(folder: pathlib.Path) -> list[str]:
    photo(folder / "br [a]" / "x[1].jpg")
    return infer("--input=br [a]/x[1].jpg")


def _one_entry(folder: pathlib.Path) -> None:
    assert len(entries(folder)) == 1


def _photo_and(*others: str):
    def make(folder: pathlib.Path) -> list[str]:
        photo(folder / "photos" / "a.png")
        for name in others:
            (folder / "photos" / name).write_bytes(b"something else")
        return infer("--input=photos", "--min_score=1")

    return make


def _video(folder: pathlib.Path) -> list[str]:
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    return infer("--input=clip.mp4")


def _escape_in_a_name(folder: pathlib.Path) -> list[str]:
    (folder / "\x1b[2J\nx.jpg").write_bytes(b"no image")
    return infer("--input=*.jpg")


INFER = [
    Case(
        "B19 four files, three of one stem and one that is named like the second picture",
        _twice,
        code=0,
        after=_four_pictures,
    ),
    Case(
        "P12 an earlier inference is in the folder",
        _again(),
        says=r"holds the detections of an earlier tfdet-infer; give another folder, or --overwrite",
        keeps=("out/old.jpg", "out/mine.jpg", "out/detections.json"),
        leaves=(),
    ),
    Case(
        "P12 an earlier inference is cleared when asked to, and nothing else",
        _again("--overwrite"),
        code=0,
        keeps=("out/mine.jpg",),
        after=_cleared,
    ),
    Case(
        "P12 a picture of the user's own has the name",
        _in_the_way("a.jpg", b"mine"),
        says="holds a.jpg, which tfdet-infer did not write",
        keeps=("out/a.jpg",),
        leaves=(),
    ),
    Case(
        "P12 a detections.json of another program",
        _in_the_way("detections.json", b'{"mine": 1}'),
        says="holds detections.json, which tfdet-infer did not write",
        keeps=("out/detections.json",),
        leaves=(),
    ),
    Case("P8 a file whose name reads like a pattern", _named_like_a_pattern, 0, after=_one_entry),
    Case(
        "P2 nothing was found",
        _photo_and(),
        code=0,
        says=(
            "0 detections in 1 image with a score of 1 or more",
            r"the best score found is 0\.\d+ \((circle|square|triangle|star|cross) in photos/a.png",
        ),
    ),
    Case(
        "P11 photographs of other kinds beside",
        _photo_and("b.HEIC", "c.tif", "notes.txt"),
        code=0,
        says=r"2 files of photos are of kinds that are not read \(.heic, .tif\)",
    ),
    Case(
        "P10 a video",
        _video,
        says="clip.mp4 cannot be opened as a video|videos and cameras need PyAV",
    ),
    Case(
        "P10 a web address",
        lambda folder: infer("--input=https://example.org/a.jpg"),
        says=r"no file matches .*a.jpg; give a file, a folder, a pattern .*web addresses",
    ),
    Case(
        "P29 a file's name with an escape sequence and a line break",
        _escape_in_a_name,
        says=r"left out \\x1b\[2J\\nx.jpg: unreadable image",
        never=("\x1b",),
    ),
    Case(
        "P24 nothing can be written to the folder",
        lambda folder: infer(f"--input={photo(folder / 'a.png')}", "--output_dir=/proc/out"),
        says="--output_dir=/proc/out: nothing can be written to /proc",
    ),
]

HOME = [
    Case(
        "B7 a home folder of nobody",
        lambda folder: ["tfdet-train", "--data=shapes", "--model_dir=~nobody-at-all/x"],
        says="there is no user 'nobody-at-all'",
        leaves=(),
    ),
    Case(
        "B7 the home folder behind an equals sign",
        lambda folder: ["tfdet-export", f"--model_dir={trained()}", "--output=~/.."],
        says=rf"{pathlib.Path.home()}/\.\. exists",
        leaves=(),
    ),
    Case(
        "B7 home folders in a data set's name",
        lambda folder: evaluate("--data=coco:~/no/a.json:~/no"),
        says=f"there is no file '{pathlib.Path.home()}/no/a.json'",
        leaves=(),
    ),
]


def _there(name: str, content: bytes, *argv: str):
    def make(folder: pathlib.Path) -> list[str]:
        (folder / name).write_bytes(content)
        return evaluate(*argv)

    return make


def _figure_of_somebody(folder: pathlib.Path) -> list[str]:
    photo(folder / "mine.png")
    argv = [f"--model_dir={trained()}", "--tradeoff", "--figure_out=mine.png"]
    return ["tfdet-eval", *argv]


_EARLIER = b'{"data": "shapes:val", "images": 2, "metrics": {}}'


def _numbers_of_two(folder: pathlib.Path) -> None:
    assert json.loads((folder / "a.json").read_text())["images"] == 2


EVAL = [
    Case(
        "P28 numbers in the place of a recipe",
        _there("recipe.yaml", b"model: {}", "--json_out=recipe.yaml"),
        says="--json_out=recipe.yaml is there, .*; give another name, or --overwrite",
        keeps=("recipe.yaml",),
        leaves=(),
    ),
    Case(
        "P28 detections in the place of annotations",
        _there("a.json", b'{"images": []}', "--detections_out=a.json"),
        says="--detections_out=a.json is there",
        keeps=("a.json",),
    ),
    Case(
        "P28 a figure in the place of a picture",
        _figure_of_somebody,
        says="--figure_out=mine.png is there",
        keeps=("mine.png",),
    ),
    Case(
        "P28 numbers of an earlier measurement are replaced",
        _there("a.json", _EARLIER, "--json_out=a.json"),
        code=0,
        after=_numbers_of_two,
    ),
    Case(
        "P28 B2 whatever is there, with a flag, and batches larger than the data",
        _there("a.json", b"mine", "--json_out=a.json", "--overwrite", "--batch_size=2000000"),
        code=0,
        after=_numbers_of_two,
    ),
    Case(
        "P28 two outputs of one name",
        lambda folder: evaluate("--json_out=a.json", "--detections_out=./a.json"),
        code=2,
        says="--json_out and --detections_out are one file",
    ),
    Case(
        "P4 a folder in the place of a file",
        lambda folder: evaluate(f"--json_out={folder}"),
        code=2,
        says="is a folder; give a file in it",
    ),
    Case(
        "P4 nothing can be written there",
        lambda folder: evaluate("--json_out=/proc/a.json"),
        says="--json_out=/proc: nothing can be written to /proc",
        never=("data:",),
    ),
    Case(
        "P3 a recipe where keys of the model are wanted",
        lambda folder: evaluate("--hparams=base.yaml"),
        code=2,
        says="--hparams=base.yaml: recipes are for tfdet-train; here only keys of the model",
    ),
]


def export(output: str) -> list[str]:
    return ["tfdet-export", f"--model_dir={trained()}", f"--output={output}"]


def _export_over(change: Callable[[pathlib.Path], object]) -> Callable[[pathlib.Path], list[str]]:
    """Over a copy of an export that the user has done something to."""

    def make(folder: pathlib.Path) -> list[str]:
        shutil.copytree(exported(), folder / "served")
        change(folder / "served")
        return export("served")

    return make


EXPORT = [
    Case(
        "P24 nothing can be written there",
        lambda folder: export("/proc/served"),
        says="--output=/proc: nothing can be written to /proc",
        never=("model:", "exporting"),
    ),
    Case(
        "B9 a file of the user's own beside the export",
        _export_over(lambda served: (served / "notes.txt").write_text("mine")),
        says="served also holds notes.txt, which tfdet-export did not write",
        never=("model:",),
        keeps=("served/notes.txt", "served/saved_model.pb"),
    ),
    Case(
        "B9 the SavedModel of another program",
        _export_over(lambda served: (served / "saved_model.pb").write_bytes(b"other")),
        says="served is a SavedModel of another program",
        keeps=("served/saved_model.pb",),
    ),
]


def _weights(change: Callable[[h5py.File, str], object]) -> Callable[[pathlib.Path], list[str]]:
    """Good weights, one array of which has been changed."""

    def make(folder: pathlib.Path) -> list[str]:
        shutil.copy(trained() / "last.weights.h5", folder / "w.weights.h5")
        with h5py.File(folder / "w.weights.h5", "r+") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if _is_array(item) else None)
            array = file[names[0]]
            with h5py.File(folder / "secret.h5", "w") as secret:
                secret["x"] = np.zeros(array.shape, array.dtype)
            (folder / "secret.bin").write_bytes(bytes(array.nbytes))
            change(file, names[0])
        return _with_weights("w.weights.h5")

    return make


def _is_array(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and item.size > 0


def _with_weights(name: str) -> list[str]:
    model = ["--model_name=efficientdet-test", f"--hparams=model.num_classes={len(CLASSES)}"]
    return ["tfdet-eval", *model, f"--weights={name}", "--data=shapes:val:2"]


def _replaced(make: Callable[[h5py.File, str, tuple, np.dtype], object]):
    def change(file: h5py.File, name: str) -> None:
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        make(file, name, shape, kind)

    return _weights(change)


def _external_storage(file: h5py.File, name: str, shape: tuple, kind: np.dtype) -> None:
    size = int(np.prod(shape)) * kind.itemsize
    file.create_dataset(name, shape, kind, external=[("secret.bin", 0, size)])


def _external_link(file: h5py.File, name: str, shape: tuple, kind: np.dtype) -> None:
    file[name] = h5py.ExternalLink("secret.h5", "x")


def _virtual(file: h5py.File, name: str, shape: tuple, kind: np.dtype) -> None:
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource("secret.h5", "x", shape)
    file.create_virtual_dataset(name, layout)


def _loop(file: h5py.File, name: str, shape: tuple, kind: np.dtype) -> None:
    file[name] = h5py.SoftLink(f"/{name}")


def _endless(file: h5py.File, name: str, shape: tuple, kind: np.dtype) -> None:
    file.create_dataset(name, (10**12,), kind, chunks=(10**6,))


def _strings(file: h5py.File, name: str, shape: tuple, kind: np.dtype) -> None:
    file[name] = np.full(shape, b"text")


def _lambda(name: str) -> Callable[[pathlib.Path], list[str]]:
    """A whole model with code in it, under the name of weights."""

    def make(folder: pathlib.Path) -> list[str]:
        import keras

        def code(x):
            open("PWNED", "w").close()
            return x

        model = keras.Sequential([keras.Input((1,)), keras.layers.Lambda(code)])
        (folder / "PWNED").unlink()  # built once
        model.save(folder / ("m.keras" if name.endswith(".keras") else "m.h5"))
        next(folder.glob("m.*")).rename(folder / name)
        return _with_weights(name)

    return make


def _hostile(name: str, make: Callable[[pathlib.Path], list[str]]) -> Case:
    return Case(f"hostile weights, {name}", make, says="tfdet-eval: .*w\\.", leaves=())


HOSTILE = [
    _hostile("stored in another file", _replaced(_external_storage)),
    _hostile("a link to another file", _replaced(_external_link)),
    _hostile("a view of another file", _replaced(_virtual)),
    _hostile("a link to itself", _replaced(_loop)),
    _hostile("a million millions of numbers", _replaced(_endless)),
    _hostile("text instead of numbers", _replaced(_strings)),
    _hostile("a model with code, Keras 3", _lambda("w.keras")),
    _hostile("a model with code, HDF5", _lambda("w.weights.h5")),
]


def with_cut_variables(folder: pathlib.Path) -> list[str]:
    shutil.copytree(exported(), folder / "s")
    (path,) = (folder / "s" / "variables").glob("*.data-*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    photo(folder / "a.png")
    return ["tfdet-infer", "--saved_model=s", "--input=a.png", "--output_dir=out"]


DAMAGED = [
    Case(
        "B21 a SavedModel whose variables are cut",
        with_cut_variables,
        says="s cannot be loaded; export it again",
        leaves=(),
    )
]

CASES = [*DAMAGED, *INFER, *HOME, *EVAL, *EXPORT, *HOSTILE]
