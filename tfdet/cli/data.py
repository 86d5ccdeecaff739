"""`tfdet-data`: makes, converts and checks data sets."""

import json
import sys
import types

from absl import flags

from tfdet.cli import app
from tfdet.cli.flags import DATA_HELP, check_positive
from tfdet.progress import ImageCounter

COMMAND = app.Command(
    name="tfdet-data",
    purpose="Makes, converts and checks data sets.",
    arguments="make shapes | convert SOURCE | check SOURCE",
    example="""
        tfdet-data check --data=voc:data/VOC2012:trainval
        tfdet-data check --data=voc:cells:train --model_name=fcos-nano --image_size=288,384
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
    "make: directory to write to. convert: start of the record files' names.",
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
    "count", None, "make: images per split; all if left out.", flag_values=COMMAND.flags
)
flags.DEFINE_integer("num_shards", 1, "convert: number of record files.", flag_values=COMMAND.flags)
flags.DEFINE_boolean(
    "overwrite",
    False,
    "make, convert: replace files that are there already.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "model_name",
    None,
    "check: a model; what each of its levels learns from the data is reported too.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_list(
    "image_size",
    None,
    "check: height,width of the network's input, for --model_name; its own if left out.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_boolean("json", False, "check: print one JSON object.", flag_values=COMMAND.flags)

# Flags that a subcommand understands, besides those that all do.
_FLAGS = {
    "make": {"output", "split", "count", "overwrite"},
    "convert": {"data", "output", "num_shards", "overwrite"},
    "check": {"data", "json", "model_name", "image_size"},
}


def main(options: types.SimpleNamespace) -> None:
    """Runs the subcommand that the first word names."""
    word, *rest = options.args or [""]
    if word not in _FLAGS:
        raise app.UsageError(f"expected make, convert or check, got {word!r}")
    strange = sorted(options.given - _FLAGS[word])
    if strange:
        raise app.UsageError(f"{word} takes no --{strange[0]}")
    check_positive(options, "count", "num_shards")
    {"make": _make, "convert": _convert, "check": _check}[word](options, rest)


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
    print(f"Writing {len(dataset)} images to {options.output}-*")
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


def _model(options):
    """The detector of `--model_name`, None without it."""
    if not options.model_name:
        if options.image_size:
            raise app.UsageError("--image_size belongs to --model_name")
        return None
    from tfdet import registry

    sides = options.image_size
    if sides and not (len(sides) == 2 and all(x.strip().isdigit() for x in sides)):
        raise app.UsageError(f"--image_size must be height,width, got {','.join(sides)}")
    size = {"image_size": tuple(int(x) for x in sides)} if sides else {}
    return registry.create(options.model_name, **size)


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
