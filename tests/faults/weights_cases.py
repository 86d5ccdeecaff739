"""Damaged and malicious weights files, given to `tfdet-weights` and to what takes weights."""

import pathlib
from collections.abc import Callable

from tests.faults.case import Case
from tests.weights import hostile


def _inspected(file: hostile.Hostile) -> Callable[[pathlib.Path], list[str]]:
    def make(folder: pathlib.Path) -> list[str]:
        file.make(folder / "x")
        return ["tfdet-weights", "import", "--model_name=efficientdet-test", *_IO]

    return make


_IO = ["--input=x", "--output=y.weights.h5"]
_UNKNOWN = "is of no project that is known here"
CASES = [
    Case(
        f"W{number} {file.name}",
        _inspected(file),
        # A flipped bit is found when the values are read.
        says=_UNKNOWN if not file.says or "flipped" in file.name else file.says,
        leaves=(),
    )
    for number, file in enumerate(hostile.FILES, start=1)
]


def _with(*argv: str) -> Callable[[pathlib.Path], list[str]]:
    return lambda folder: list(argv)


def _made(name: str, *argv: str) -> Callable[[pathlib.Path], list[str]]:
    """With a folder of this name."""

    def make(folder: pathlib.Path) -> list[str]:
        (folder / name).mkdir()
        return list(argv)

    return make


CASES += [
    Case(
        "W50 weights that nobody has downloaded",
        _with("tfdet-eval", "--model_name=retinanet-r50", "--weights=coco", "--data=shapes:val:2"),
        says=r"weights torchvision-retinanet-r50 .*are not on this machine; download them with "
        r"`tfdet-weights fetch torchvision-retinanet-r50` \(licence: BSD-3-Clause\)",
    ),
    Case(
        "W51 a name that no weights have",
        _with("tfdet-weights", "fetch", "torchvision-retina"),
        says="there are no weights 'torchvision-retina'; did you mean 'torchvision-retinanet-r50'",
    ),
    Case(
        "W52 a subcommand that is none",
        _with("tfdet-weights", "download", "x"),
        code=2,
        says="expected list, fetch, import or inspect, got 'download'",
    ),
    Case(
        "W53 a flag of another subcommand",
        _with("tfdet-weights", "list", "--output=x"),
        code=2,
        says="list takes no --output",
    ),
    Case(
        "W54 an output that would not be found as weights",
        _with("tfdet-weights", "import", "--input=x", "--output=y.h5"),
        code=2,
        says=r"--output=y.h5 must be NAME.weights.h5",
    ),
    Case(
        "W55 a model in the place of its weights",
        _with("tfdet-weights", "fetch", "retinanet-r101"),
        says="for the model retinanet-r101: mmdet-retinanet-r101, detectron-r101",
    ),
    Case(
        "W56 a folder that is no training folder",
        _made("x", "tfdet-weights", "import", *_IO),
        code=2,
        says=r"--model_name must be given, since x is no training folder .* no recipe\.yaml",
        leaves=(),
    ),
    Case(
        "W57 a folder in the place of the output",
        _made("y.weights.h5", "tfdet-weights", "import", "--overwrite", *_IO),
        says=r"y\.weights\.h5 is a folder; choose another --output",
    ),
    Case(
        "W59 the word for published weights, without a model",
        _with("tfdet-weights", "inspect", "coco"),
        says="there are no weights 'coco'; it means another file for each model",
    ),
    Case(
        "W58 published weights that nobody has downloaded are not shown",
        _with("tfdet-weights", "inspect", "yolov7"),
        says="download them with `tfdet-weights fetch yolov7`",
    ),
]
