"""`tfdet-weights`: published weights, and those of other projects, for the models of the garden."""

import json
import os
import pathlib
import sys
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from absl import flags

from tfdet import progress
from tfdet.cli import app
from tfdet.cli.flags import check_writable
from tfdet.errors import UserError
from tfdet.printable import printable

if TYPE_CHECKING:
    from tfdet.weights.catalog import Entry
    from tfdet.weights.lazy import LazyTensor
    from tfdet.weights.report import Report

_ENDING = ".weights.h5"

COMMAND = app.Command(
    name="tfdet-weights",
    purpose="Lists, downloads, converts and shows weights for the models of the garden.",
    arguments="list [WORD] | fetch NAME ... | import | inspect FILE",
    example="""
        tfdet-weights list retinanet
        tfdet-weights fetch torchvision-retinanet-r50
        tfdet-weights import --model_name=retinanet-r50 --input=mmdet:x.pth --output=x.weights.h5
        tfdet-weights inspect checkpoint.pth
    """,
)
flags.DEFINE_string(
    "model_name",
    None,
    "import: registered model that the weights are for.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "input",
    None,
    "import: what tfdet.create takes as weights: a file, SOURCE:FILE, coco, imagenet, a name of "
    "the list; or a folder that tfdet-train wrote, without --model_name.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "output",
    None,
    f"import: file to write, NAME{_ENDING}; the report goes beside it, to NAME.report.txt.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_boolean(
    "float16", False, "import: write half the bytes, rounded to float16.", flag_values=COMMAND.flags
)
flags.DEFINE_boolean(
    "overwrite", False, "import: replace files that are there already.", flag_values=COMMAND.flags
)
flags.DEFINE_boolean("json", False, "list, inspect: print JSON.", flag_values=COMMAND.flags)

# Flags that a subcommand understands.
_FLAGS = {
    "list": {"json"},
    "fetch": set(),
    "import": {"model_name", "input", "output", "float16", "overwrite"},
    "inspect": {"json"},
}


def main(options: types.SimpleNamespace) -> None:
    """Runs the subcommand that the first word names."""
    word, *rest = options.args or [""]
    if word not in _FLAGS:
        raise app.UsageError(f"expected list, fetch, import or inspect, got {word!r}")
    strange = sorted(options.given - _FLAGS[word])
    if strange:
        raise app.UsageError(f"{word} takes no --{strange[0]}")
    {"list": _list, "fetch": _fetch, "import": _import, "inspect": _inspect}[word](options, rest)


# list


def _list(options: types.SimpleNamespace, words: list[str]) -> None:
    from tfdet.weights import catalog, origins

    if len(words) > 1:
        raise app.UsageError(f"list takes one word to look for, got {len(words)}")
    word = words[0].lower() if words else ""
    entries = [x for x in catalog.ENTRIES if word in " ".join((x.name, x.kind, *x.models)).lower()]
    if options.json:
        print(json.dumps([_facts(entry) for entry in entries], indent=1))
        return
    if not entries:
        raise UserError(
            f"no weights have {word!r} in their name or their models'; `tfdet-weights list` shows "
            "all"
        )
    print(_table(entries))
    if origins.shapes_models():
        print(f"In the package: weights='shapes' of {', '.join(origins.shapes_models())}")
    print(
        "Download with `tfdet-weights fetch NAME`; then tfdet.create(MODEL, weights=NAME), "
        "--model_name=MODEL --weights=NAME or --pretrained=NAME.\n"
        "weights='coco' and 'imagenet' take the first of the list that is for the model."
    )


def _facts(entry: "Entry") -> dict[str, Any]:
    from tfdet.weights import cache

    return {**entry._asdict(), "is_here": cache.place_of(entry).exists()}


def _table(entries: "Iterable[Entry]") -> str:
    from tfdet.weights import cache

    lines = [f"{'name':<29}{'what':<9}{'AP':>5}{'MB':>6}  {'licence':<13}{'for'}"]
    for entry in entries:
        ap = "" if entry.kind != "coco" else "?" if entry.ap is None else f"{entry.ap:.1f}"
        size = "?" if entry.megabytes is None else f"{entry.megabytes:.0f}"
        models = ", ".join(entry.models) or "see docs/weights.md"
        note = f" ({entry.note})" if entry.note else ""
        here = " [here]" if cache.place_of(entry).exists() else ""
        lines.append(
            f"{entry.name:<29}{entry.kind:<9}{ap:>5}{size:>6}  {entry.licence:<13}{models}{note}"
            f"{here}"
        )
    return "\n".join(lines)


# fetch


def _fetch(options: types.SimpleNamespace, words: list[str]) -> None:
    from tfdet.weights import catalog, fetch

    if not words:
        raise app.UsageError("fetch: name what to download, as `tfdet-weights list` shows it")
    entries = [catalog.named(word) for word in words]  # a wrong one ahead of all downloads
    for entry in entries:
        name = entry.name
        print(f"{name}: {entry.url} (licence: {entry.licence})", flush=True)
        bar = _Bytes()
        place = fetch.fetch(entry, bar, lambda sentence: print(sentence, flush=True))
        bar.finish()
        print(f"{name} is in {place}")
        if entry.models:
            print(f"tfdet.create({entry.models[0]!r}, weights={name!r})")


class _Bytes:
    """Called with (bytes, bytes in all or None): a line that says how far a download is."""

    def __init__(self) -> None:
        self._line, self._pace = progress.Line(sys.stderr), progress.Pace()
        self._text = ""

    def __call__(self, done: int, total: int | None) -> None:
        self._pace.start(done)
        speed = self._pace.speed(done)
        of = f"/{total / 2**20:.1f}" if total else ""
        rate = f", {speed / 2**20:.1f} MB/s" if speed else ""
        left = self._pace.left(done, total) if total else ""
        self._text = f"{done / 2**20:.1f}{of} MB{rate}" + (f", {left} left" if left else "")
        if self._line.is_due():
            self._line.show(self._text)

    def finish(self) -> None:
        """Leaves the last state standing."""
        if self._text:
            self._line.finish(self._text.partition(", ")[0])


# import


def _import(options: types.SimpleNamespace, words: list[str]) -> None:
    if words:
        raise app.UsageError(f"import takes flags only, got {words[0]!r}")
    for name in ("input", "output"):
        if not getattr(options, name):
            raise app.UsageError(f"import: --{name} must be given")
    output = pathlib.Path(options.output)
    if not output.name.endswith(_ENDING) or output.name == _ENDING:
        raise app.UsageError(f"--output={output} must be NAME{_ENDING}")
    report_file = output.with_name(f"{output.name.removesuffix(_ENDING)}.report.txt")
    for path in (output, report_file):
        if path.is_dir():
            raise UserError(f"{path} is a folder; choose another --output")
        if path.exists() and not options.overwrite:
            raise UserError(f"{path} is there already; --overwrite replaces it")
    check_writable(output.absolute().parent, "output")
    if os.path.isdir(options.input) and not options.model_name:
        report = _from_folder(options, output)
    else:
        report = _from_weights(options, output)
    from tfdet import files

    files.write_text(report_file, report.to_text())
    print(report.sentence())
    print(f"wrote {output}, and what became of each tensor to {report_file}")


def _from_weights(options: types.SimpleNamespace, output: pathlib.Path) -> "Report":
    from tfdet.weights import importing, loading, own, stored

    if not options.model_name:
        raise app.UsageError("import: --model_name must be given")
    model, report = loading.create_reported(options.model_name, options.input, {})
    names = None
    if report.is_backbone:
        # Of a cascade only the backbones that the file was for.
        filled = {importing.BACKBONE.match(f"{path}/") for _, path in report.used}
        prefixes = {found[0] for found in filled if found}
        names = [x for x in own.backbone_of(stored.layout(model)) if x.startswith(tuple(prefixes))]
    _make_folder(output)
    stored.save(model, output, report.settings, names, options.float16)
    return report


def _from_folder(options: types.SimpleNamespace, output: pathlib.Path) -> "Report":
    """The best weights of a training folder, with the keys of its recipe."""
    from tfdet.training import trained
    from tfdet.weights import stored
    from tfdet.weights.report import Report

    if not os.path.isfile(os.path.join(options.input, trained.RECIPE_FILE)):
        raise app.UsageError(
            f"import: --model_name must be given, since {options.input} is no training folder of "
            f"tfdet (it has no {trained.RECIPE_FILE})"
        )
    model = trained.load_trained(options.input)
    settings = {k: v for k, v in trained.trained_recipe(options.input).model.items() if k != "name"}
    _make_folder(output)
    stored.save(model, output, settings, half=options.float16)
    names = stored.layout(model)
    path = str(trained.weights_file(options.input))
    return Report(path, "tfdet", settings, used=tuple((x, x) for x in names))


def _make_folder(output: pathlib.Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output.parent} cannot be made ({error.strerror})") from None


# inspect


def _inspect(options: types.SimpleNamespace, words: list[str]) -> None:
    from tfdet.weights import origins, reading, sources, stored

    if len(words) != 1:
        raise app.UsageError(f"inspect takes one file, got {len(words)}")
    path, _ = origins.located(words[0])
    weights = reading.open_weights(path)
    found = {one.name: one.note for one in sources.candidates(weights.shapes)}
    if stored.is_ours(path) or origins.looks_like_ours(weights):
        found = {"tfdet": ""}
    if options.json:
        print(json.dumps(_described(path, weights, list(found)), indent=1))
        return
    inside = f", under {weights.part!r}" if weights.part else ""
    total = sum(tensor.size for tensor in weights.tensors.values())
    print(f"{path}: {weights.kind}{inside}; {len(weights.tensors)} tensors, {total:,} values")
    projects = " or ".join(f"{name}{note}" for name, note in found.items())
    print(f"project: {projects or 'none that is known here'}")
    for name, tensor in weights.tensors.items():
        print(f"{printable(name)}  {_shape(tensor)}  {tensor.dtype}")


def _described(path: str, weights: Any, found: list[str]) -> dict[str, Any]:
    return {
        "file": path,
        "kind": weights.kind,
        "part": weights.part,
        "projects": found,
        "tensors": {
            name: {"shape": list(tensor.shape), "dtype": tensor.dtype}
            for name, tensor in weights.tensors.items()
        },
    }


def _shape(tensor: "LazyTensor") -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
