"""`tfdet-eval`: the COCO numbers of a trained detector."""

import json
import os
import sys
import time
import types

from absl import flags as absl_flags

from tfdet.cli import app, flags, progress

COMMAND = app.Command(
    name="tfdet-eval",
    purpose="Measures the average precision of a detector by the rules of COCO.",
    example="""
        tfdet-eval --model_dir=runs/shapes --data=shapes:val
        tfdet-eval --model_dir=runs/d0 --data=coco:val.json:val2017 --json_out=runs/d0/val.json
    """,
)
flags.define_model(COMMAND.flags)
flags.define_data(
    COMMAND.flags, "Data to measure on (the validation data of the run where it is not given)"
)
absl_flags.DEFINE_integer("batch_size", 8, "Images per step.", flag_values=COMMAND.flags)
absl_flags.DEFINE_string(
    "json_out", None, "File for the numbers as a JSON object.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_string(
    "detections_out",
    None,
    "File for the detections as the COCO server takes them (original ids).",
    flag_values=COMMAND.flags,
)


def main(options: types.SimpleNamespace) -> None:
    """Loads, measures, prints the table and writes what was asked for."""
    _check(options)
    from tfdet.data import sources
    from tfdet.evaluation import coco

    source = options.data or _validation_data(options.model_dir)
    model = flags.load_model(options)
    dataset = sources.open_dataset(source)
    print(f"data: {source}, {len(dataset)} images, {len(dataset.class_names)} classes", flush=True)
    started = time.monotonic()
    evaluation = coco.Evaluation(model, dataset, options.batch_size)
    evaluator = evaluation.run(progress.ImageCounter())
    metrics = evaluator.result()
    print(coco.format_table(metrics))
    if evaluator.num_left_out:
        print(f"left out: {evaluator.num_left_out} images that cannot be read; see tfdet-data")
    if options.json_out:
        facts = {
            "data": source,
            "images": len(dataset) - evaluator.num_left_out,
            "left_out": evaluator.num_left_out,
            "seconds": round(time.monotonic() - started, 1),
        }
        _write(options.json_out, json.dumps({**facts, "metrics": metrics}, indent=1))
    if options.detections_out:
        _write(options.detections_out, json.dumps(evaluator.detections()))


def _check(options: types.SimpleNamespace) -> None:
    given = flags.check_model(options)
    flags.check_positive(options, "batch_size")
    if given == "model_name" and not options.weights:
        raise app.UsageError("--model_name needs --weights: random weights detect nothing")
    if given == "model_name" and not options.data:
        raise app.UsageError("--model_name needs --data")
    for name in ("json_out", "detections_out"):
        path = getattr(options, name)
        if path and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise app.UsageError(f"--{name}={path}: its folder does not exist")


def _validation_data(model_dir: str) -> str:
    from tfdet.training import trained

    source = trained.trained_recipe(model_dir).data.val
    if not source:
        raise app.UsageError(f"the recipe in {model_dir} names no validation data; give --data")
    return source


def _write(path: str, text: str) -> None:
    from tfdet.training import atomic

    atomic.write_text(path, f"{text}\n")
    print(f"wrote {path}")


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
