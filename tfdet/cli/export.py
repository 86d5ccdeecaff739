"""`tfdet-export`: a trained detector to a file that serves it."""

import pathlib
import sys
import types

from absl import flags as absl_flags

from tfdet.cli import app, flags

COMMAND = app.Command(
    name="tfdet-export",
    purpose="Exports a detector as a SavedModel and checks that its detections equal the model's.",
    example="tfdet-export --model_dir=runs/shapes --output=runs/shapes/saved_model",
    required=("output",),
)
flags.define_model(COMMAND.flags)
absl_flags.DEFINE_string(
    "output",
    None,
    "Folder to write; an earlier export there is replaced.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "format", "saved_model", "What to write; only saved_model so far.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_bool(
    "native_ops",
    False,
    "Use the native PackOp (packed heads). Whoever serves the file must call tf.load_op_library; a "
    "copy of the library is put into the folder.",
    flag_values=COMMAND.flags,
)


def main(options: types.SimpleNamespace) -> None:
    """Exports, and says what was compared."""
    flags.check_model(options)
    if options.format != "saved_model":
        raise app.UsageError(
            f"--format={options.format} cannot be written; use --format=saved_model"
        )
    from tfdet.ops import pack_native
    from tfdet.serving import driver, export

    export.check_replaceable(options.output)
    flags.check_writable(pathlib.Path(options.output).absolute().parent, "output")
    model = flags.load_model(options)
    print(f"exporting to {options.output} and running it in a new process ...", flush=True)
    difference = export.export(model, options.output, options.native_ops)
    print(
        f"wrote {options.output}: run in a new process without tfdet, batches of 1 and 3, images "
        f"and encoded images; {difference.detections} detections equal the model's, largest "
        f"difference {difference.box:.2g} pixels and {difference.score:.2g} in score"
    )
    if not difference.detections:
        print(
            "the model detects nothing in the trial pictures, so that only empty lists were "
            "compared; export again when it is trained"
        )
    if difference.tied:
        print(
            f"{difference.tied} detections at the end of full lists were left out of the "
            "comparison, since their scores tie"
        )
    if options.native_ops:
        library = f"{options.output}/{driver.LIBRARY_FOLDER}/{pack_native.LIBRARY}"
        print(f"before loading it: tf.load_op_library('{library}')")


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
