"""`tfdet-export`: a trained detector to a file that serves it."""

import dataclasses
import json
import pathlib
import sys
import types
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet.cli import app, flags
from tfdet.errors import UserError
from tfdet.serving import formats

if TYPE_CHECKING:
    from tfdet.data.dataset import DetectionDataset
    from tfdet.detectors.base import Detector
    from tfdet.serving.compare import Difference

COMMAND = app.Command(
    name="tfdet-export",
    purpose="Exports a detector for a runtime and checks that its detections equal the model's.",
    example="""
        tfdet-export --model_dir=runs/shapes --output=runs/shapes/saved_model
        tfdet-export --model_dir=runs/shapes --output=served/onnx --format=onnx
        tfdet-export --model_dir=runs/shapes --output=served/phone --format=litert \\
            --precision=int8 --data=shapes:train
        tfdet-export --model_dir=runs/shapes --output=compared --compare --data=shapes:val
    """,
    required=("output",),
)
flags.define_model(COMMAND.flags)
absl_flags.DEFINE_string(
    "output",
    None,
    "Folder to write; an earlier export there is replaced.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_enum(
    "format",
    formats.SAVED_MODEL,
    list(formats.NAMES),
    "What to write; docs/export.md lists what is in each.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "precision",
    "float32",
    "Precision of the numbers: float32; litert: also float16, int8; openvino: also bfloat16, int8.",
    flag_values=COMMAND.flags,
)
flags.define_data(
    COMMAND.flags,
    "Images to compare detections in, to choose the ranges of int8 from, and to measure what AP "
    "a precision costs",
)
absl_flags.DEFINE_bool(
    "compare",
    False,
    "Write every format that is installed into --output, and measure size, time and AP on --data.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_float(
    "max_ap_loss",
    0.3,
    "--compare: AP, 0 to 100, that the format named as the fastest may lose.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_bool(
    "native_ops",
    False,
    "Use the native PackOp (packed heads). Whoever serves the file must call tf.load_op_library; a "
    "copy of the library is put into the folder.",
    flag_values=COMMAND.flags,
)


def main(options: types.SimpleNamespace) -> None:
    """Exports, and reports what was compared."""
    flags.check_model(options)
    _check(options)
    if options.compare:
        _compare(options)
        return
    from tfdet.data import sources
    from tfdet.ops import pack_native
    from tfdet.serving import driver, export

    form = {"format": options.format, "precision": options.precision}
    export.check(**form, native_ops=options.native_ops, has_data=options.data is not None)
    export.check_replaceable(options.output)
    flags.check_writable(pathlib.Path(options.output).absolute().parent, "output")
    dataset = sources.open_dataset(options.data) if options.data else None
    model = flags.load_model(options)
    print(
        f"exporting to {options.output} and running it in a new process; it takes about a minute, "
        "longer for large models ...",
        flush=True,
    )
    difference = export.export(
        model, options.output, options.native_ops, **form, data=dataset, recipe=_recipe(options)
    )
    _report(options, difference)
    if options.native_ops:
        library = f"{options.output}/{driver.LIBRARY_FOLDER}/{pack_native.LIBRARY}"
        print(f"before loading it: tf.load_op_library('{library}')")
    if dataset is not None and options.precision != "float32":
        _report_precision(options, model, dataset)
    serve = f", or tfdet-serve --model=NAME={options.output}"
    print(
        f"next: tfdet-infer --saved_model={options.output} --input=IMAGES --output_dir=FOLDER"
        f"{serve if options.format == formats.SAVED_MODEL else ''}"
    )


def _recipe(options: types.SimpleNamespace) -> dict[str, Any] | None:
    """That of the training, with what --hparams changed; None without --model_dir."""
    if "model_dir" not in options.given:
        return None
    from tfdet import records
    from tfdet.training import trained

    recipe = records.to_dict(trained.trained_recipe(options.model_dir))
    changes = flags.model_changes(options.hparams)
    return {**recipe, "model": records.merge(recipe["model"], records.nest(changes))}


def _check(options: types.SimpleNamespace) -> None:
    """Refuses flags that would be without effect."""
    if not options.compare:
        if "max_ap_loss" in options.given:
            raise app.UsageError("--max_ap_loss belongs to --compare")
        return
    useless = sorted(options.given & {"format", "precision", "native_ops"})
    if useless:
        raise app.UsageError(f"--compare writes all formats and takes no --{useless[0]}")
    if not options.data:
        raise app.UsageError("--compare needs --data to measure on")
    if options.max_ap_loss < 0:
        raise app.UsageError(f"--max_ap_loss must be at least 0, got {options.max_ap_loss:g}")


def _compare(options: types.SimpleNamespace) -> None:
    """Writes and measures all formats."""
    from tfdet import files
    from tfdet.data import sources
    from tfdet.serving import formats_compared

    flags.check_new_folder(options, "output")
    dataset = sources.open_dataset(options.data)
    model = flags.load_model(options)
    folder = pathlib.Path(options.output)
    rows = formats_compared.compare_formats(
        model, folder, dataset, lambda line: print(line, flush=True)
    )
    print(formats_compared.format_table(rows))
    best = formats_compared.fastest(rows, options.max_ap_loss / 100)
    if best is None:
        raise UserError(f"no format could be written: {rows[0].problem}")
    print(
        f"fastest with at most {options.max_ap_loss:g} AP less than the SavedModel: {best.name}, "
        f"{best.ms[0]:.1f} ms an image"
    )
    facts = {
        "model": model.name,
        "data": options.data,
        "fastest": best.name,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    files.write_text(folder / "comparison.json", json.dumps(facts, indent=1) + "\n")
    print(f"wrote {folder / 'comparison.json'}; each format is a folder beside it")


def _report(options: types.SimpleNamespace, difference: "Difference") -> None:
    """Says what was compared."""
    by = "without tfdet, " if options.format == formats.SAVED_MODEL else "by its driver, "
    encoded = ", as pixels and encoded" if options.format == formats.SAVED_MODEL else ""
    # Images of the data are run by the driver, whatever the format.
    aside = "; by its driver," if encoded else ", and"
    photos = f"{aside} images of {options.data}" if options.data else ""
    if options.precision == "float32":
        found = f"{difference.detections} detections equal the model's, largest"
    else:
        kept = difference.detections - difference.lost
        found = (
            f"of the model's {difference.detections} detections with a score of 0.3 or more "
            f"{kept} are found again, largest"
        )
    print(
        f"wrote {options.output}: run in a new process {by}batches of 1 and 3 drawn images{encoded}"
        f"{photos}; {found} difference {difference.box:.2g} pixels and "
        f"{difference.score:.2g} in score"
    )
    if not difference.detections:
        print(
            "the model detects nothing in the trial pictures, so that only empty lists were "
            "compared; export again when it is trained"
        )
    if difference.tied:
        print(
            f"{difference.tied} detections were left out of the comparison, since their scores tie"
        )


def _report_precision(
    options: types.SimpleNamespace, model: "Detector", dataset: "DetectionDataset"
) -> None:
    """Says what a precision costs on the data."""
    from tfdet import progress
    from tfdet.serving import driver, exported, measure

    own = measure.average_precision(driver.ModelDriver(model), dataset, progress.ImageCounter())
    found = measure.average_precision(
        exported.open_exported(options.output), dataset, progress.ImageCounter()
    )
    print(
        f"AP on {options.data}: {100 * own:.1f} in float32, {100 * found:.1f} in "
        f"{options.precision}"
    )


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
