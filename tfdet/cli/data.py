"""`tfdet-data`: makes, converts, checks and shows data sets, and suggests recipes for them."""

import json
import pathlib
import sys
import types

from absl import flags

from tfdet.cli import app, data_view
from tfdet.cli.flags import DATA_HELP, check_positive, check_writable
from tfdet.errors import UserError
from tfdet.printable import counted
from tfdet.progress import ImageCounter

COMMAND = app.Command(
    name="tfdet-data",
    purpose="Makes, converts, checks and shows data sets, and suggests recipes for them.",
    arguments="make shapes | convert SOURCE | check SOURCE | view SOURCE | suggest SOURCE",
    example="""
        tfdet-data check --data=voc:data/VOC2012:trainval
        tfdet-data check --data=voc:cells:train --model_name=fcos-nano --image_size=288,384
        tfdet-data view --data=voc:cells --model_name=fcos-nano --output=view.html
        tfdet-data suggest --data=voc:cells:train --budget_ms=20 --output=recipe.yaml
        tfdet-data convert coco:instances_train.json:train --output=records/train --num_shards=32
        tfdet-data make shapes --output=data/shapes
        tfdet-data make shapes --split=val --count=12 --output=demo/images
    """,
)
flags.DEFINE_string(
    "data", None, f"The source, in place of the word: {DATA_HELP}.", flag_values=COMMAND.flags
)
flags.DEFINE_string(
    "output",
    None,
    "make: directory to write to. convert: start of the record files' names. view: the page, "
    "view.html by default. suggest: the recipe; printed only if left out.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_enum(
    "split",
    None,
    ["train", "val"],
    "make: the split to draw; both where it is not given.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_integer(
    "count",
    None,
    "make: images per split; all if left out. view: images that are shown; 24 if left out.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_integer("num_shards", 1, "convert: number of record files.", flag_values=COMMAND.flags)
flags.DEFINE_boolean(
    "overwrite",
    False,
    "make, convert, view, suggest: replace files that are there already.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "model_name",
    None,
    "check, view: a model; what each of its levels learns from the data is reported too.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_list(
    "image_size",
    None,
    "check, view: height,width of the network's input, for --model_name; its own if left out.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_multi_string(
    "hparams",
    [],
    "view: the name of a recipe (`tfdet-train --list_recipes`), a .yaml file or train.seed=1,...; "
    "may be repeated. A training batch is shown as this recipe makes it.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_integer(
    "seed", 0, "view: of the choice of images.", flag_values=COMMAND.flags, lower_bound=0
)
flags.DEFINE_float(
    "budget_madds",
    None,
    "suggest: multiply-adds of the detector for one image, at most, such as 1e9.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_float(
    "budget_ms",
    None,
    "suggest: milliseconds of the detector for one image on this machine, at most; measured.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_boolean("json", False, "check: print one JSON object.", flag_values=COMMAND.flags)

# Flags that a subcommand understands, besides those that all do.
_FLAGS = {
    "make": {"output", "split", "count", "overwrite"},
    "convert": {"data", "output", "num_shards", "overwrite"},
    "check": {"data", "json", "model_name", "image_size"},
    "view": {"data", "output", "overwrite", "model_name", "image_size", "count", "seed", "hparams"},
    "suggest": {"data", "output", "overwrite", "budget_madds", "budget_ms"},
}


def main(options: types.SimpleNamespace) -> None:
    """Runs the subcommand that the first word names."""
    word, *rest = options.args or [""]
    if word not in _FLAGS:
        raise app.UsageError(f"expected make, convert, check, view or suggest, got {word!r}")
    strange = sorted(options.given - _FLAGS[word])
    if strange:
        raise app.UsageError(f"{word} takes no --{strange[0]}")
    check_positive(options, "count", "num_shards", "budget_madds", "budget_ms")
    run_word = {
        "make": _make,
        "convert": _convert,
        "check": _check,
        "view": _view,
        "suggest": _suggest,
    }
    run_word[word](options, rest)


def _make(options, words: list[str]) -> None:
    if words != ["shapes"]:
        raise app.UsageError(f"expected `make shapes`, got make {' '.join(words)!r}")
    _require_output(options)
    from tfdet.data.shapes import SPLIT_SIZES
    from tfdet.data.shapes_export import write_shapes

    splits = [options.split] if options.split else list(SPLIT_SIZES)
    counts = {split: options.count or SPLIT_SIZES[split] for split in splits}
    print(f"Drawing the shapes set into {options.output}")
    for spec in write_shapes(options.output, counts, ImageCounter(), options.overwrite):
        print(f"--data={spec}")


def _convert(options, words: list[str]) -> None:
    source = _source(options, words)
    _require_output(options)
    from tfdet.data.convert import convert, pattern_of
    from tfdet.data.sources import open_dataset

    print(f"Reading {source}")
    dataset = open_dataset(source)
    print(f"Writing {counted(len(dataset), 'image')} to {options.output}-*")
    shards = convert(dataset, options.output, options.num_shards, ImageCounter(), options.overwrite)
    print(f"Wrote {len(shards)} record files and read them again: they hold the same.")
    print(f"--data=tfrecord:{pattern_of(options.output, len(shards))}")


def _check(options, words: list[str]) -> None:
    source = _source(options, words)
    from tfdet.data.check import check, report_text

    model = _model(options)
    report = check(source, ImageCounter())
    levels = None
    if model is not None:
        from tfdet.data.sources import open_dataset
        from tfdet.training.level_report import level_report

        levels = level_report(model, open_dataset(source))
        report["levels"] = levels.as_dict() if levels else None
    if options.json:
        print(json.dumps(report, indent=1))
        return
    print(report_text(report))
    if levels:
        print("\n".join(levels.lines()))
    elif model is not None:
        print(f"{options.model_name}: what a level learns is chosen during training")


def _view(options, words: list[str]) -> None:
    recipe = _recipe(options)
    if recipe is not None and recipe.data.train and not (words or options.data):
        words = [recipe.data.train]
    source = _source(options, words)
    options.output = options.output or "view.html"
    data_view.check_flags(options)
    if recipe is None:
        model = _model(options)
    else:
        from tfdet import config

        name = recipe.model.get("name", config.DEFAULT_MODEL)
        model = _without_variables(name, recipe.model_config())
    data_view.view(source, options, model, recipe)


def _suggest(options, words: list[str]) -> None:
    if options.budget_madds and options.budget_ms:
        raise app.UsageError("give only one of --budget_madds and --budget_ms")
    source = _source(options, words)
    path = pathlib.Path(options.output) if options.output else None
    if path is not None:
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise app.UsageError(f"--output must be a name such as recipe.yaml, got {path}")
        if path.exists() and not options.overwrite:
            raise UserError(f"--output={path} is there already; give another, or --overwrite")
        check_writable(path.absolute().parent, "output")
    from tfdet import config, files
    from tfdet.training import suggestion

    found = suggestion.suggest(source, options.budget_madds, options.budget_ms, print)
    print("\n".join(found.lines()))
    if path is None:
        return
    command = f"tfdet-train --hparams={path} --model_dir={suggestion.model_dir_of(source)}"
    files.write_text(path, found.recipe(command))
    config.make_recipe([str(path)])  # reads it again: it is a recipe
    print(f"wrote {path}; it is trained by\n  {command}")


def _recipe(options):
    """What `--hparams` come to, with the model that the other flags name; None without them."""
    if not options.hparams:
        return None
    from tfdet import config

    changes = {"model.name": options.model_name} if options.model_name else {}
    if options.image_size:
        changes["model.image_size"] = _sides(options)
    return config.make_recipe(options.hparams, changes)


def _model(options):
    """The detector of `--model_name`, None without it."""
    if not options.model_name:
        if options.image_size:
            raise app.UsageError("--image_size belongs to --model_name")
        return None
    from tfdet import registry

    size = {"image_size": _sides(options)} if options.image_size else {}
    return _without_variables(options.model_name, registry.config(options.model_name, **size))


def _without_variables(name: str, config):
    """A detector that can be asked about anchors and levels; it takes no memory to speak of."""
    from tfdet import registry

    return registry.detector_class(name).from_record(config, name)


def _sides(options) -> tuple[int, int]:
    sides = options.image_size
    if not (len(sides) == 2 and all(x.strip().isdigit() for x in sides)):
        raise app.UsageError(f"--image_size must be height,width, got {','.join(sides)}")
    return int(sides[0]), int(sides[1])


def _source(options, words: list[str]) -> str:
    """The data set, given either as the second word or by --data."""
    sources = [*words, *([options.data] if options.data else [])]
    if len(sources) != 1:
        raise app.UsageError(f"expected one data set, got {len(sources)}; name it once")
    return sources[0]


def _require_output(options) -> None:
    if not options.output:
        raise app.UsageError("--output must be given")


def run() -> None:
    """Console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
