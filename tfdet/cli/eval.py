"""`tfdet-eval`: the COCO numbers of a trained detector."""

import json
import sys
import time
import types
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet import devices, progress
from tfdet.cli import app, eval_report, flags
from tfdet.cli import eval_outputs as outputs
from tfdet.errors import UserError
from tfdet.printable import counted

if TYPE_CHECKING:
    from tfdet.data.dataset import DetectionDataset
    from tfdet.detectors.base import Detector
    from tfdet.detectors.caddet import CADDet
    from tfdet.detectors.dynamic import Dynamic
    from tfdet.evaluation import coco

COMMAND = app.Command(
    name="tfdet-eval",
    purpose="Measures the average precision of a detector by the rules of COCO.",
    example="""
        tfdet-eval --model_dir=runs/shapes --data=shapes:val
        tfdet-eval --model_dir=runs/d0 --data=coco:val.json:val2017 --json_out=runs/d0/val.json
        tfdet-eval --model_name=fcos-nano --weights=shapes --data=shapes:val --report_dir=report
        tfdet-eval --model_dir=runs/new --report_dir=report --compared_with=runs/old
        tfdet-eval --model_dir=runs/dynamic --calibrate
        tfdet-eval --model_dir=runs/dynamic --tradeoff --figure_out=runs/dynamic/tradeoff.png
        tfdet-eval --model_dir=runs/dynamic --effort=0.3
        tfdet-eval --model_dir=runs/caddet --routes --figure_out=runs/caddet/routes.png
    """,
)
flags.define_model(COMMAND.flags)
flags.define_data(
    COMMAND.flags, "Data to measure on (the validation data of the run where it is not given)"
)
flags.define_batch_size(COMMAND.flags)
absl_flags.DEFINE_string(
    "json_out", None, "File for the numbers as a JSON object.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_string(
    "detections_out",
    None,
    "File for the detections as the COCO server takes them (original ids).",
    flag_values=COMMAND.flags,
)
flags.define_effort(COMMAND.flags)
absl_flags.DEFINE_boolean(
    "calibrate",
    False,
    "Measure what each effort of a dynamic detector costs on --data, and keep the table in "
    "--model_dir.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_boolean(
    "tradeoff",
    False,
    "Measure a dynamic detector at eleven efforts; a cascade needs one pass over the data.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_boolean(
    "routes",
    False,
    "Also report how different the routes of a CADDet are, and what their cost correlates with.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "figure_out",
    None,
    "--tradeoff, --routes: file for the figure (.png).",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "report_dir",
    None,
    "Folder for report.html, a page that explains the numbers (kinds of errors, curves, confusion "
    "matrix, worst images), and report.json with its figures. With --tradeoff it has that too.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "compared_with",
    None,
    "--report_dir: folder of another training, which is measured on the same data; the report then "
    "also has the objects that only one of both finds, and the images where they differ most.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_boolean(
    "overwrite",
    False,
    "Replace files of --json_out, --detections_out, --figure_out and --report_dir, also those that "
    "tfdet-eval did not write.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_integer(
    "random_draws",
    None,
    "--tradeoff of a cascade: random routings that are averaged for each share (3).",
    flag_values=COMMAND.flags,
)


def main(options: types.SimpleNamespace) -> None:
    """Loads, measures, prints the table and writes what was asked for."""
    _check(options)
    from tfdet.data import sources
    from tfdet.serving import batches

    source = options.data or _validation_data(options.model_dir)
    model = flags.load_model(options)
    if (options.calibrate or options.tradeoff) and not model.is_dynamic:
        raise UserError(f"{model.name} is no dynamic detector: it has nothing to trade")
    if options.routes and model.route_map is None:
        raise UserError(f"{model.name} has no routes; they are what a CADDet has")
    if options.batch_size is None:
        options.batch_size = batches.default_batch_size(model.image_size)
    dataset = sources.open_dataset(source)
    print(
        f"data: {source}, {counted(len(dataset), 'image')}, "
        f"{counted(len(dataset.class_names), 'class')}; running on {devices.in_use()}",
        flush=True,
    )
    if options.calibrate:
        _calibrate(options, model, dataset)
    elif options.tradeoff:
        _trade_off(options, model, dataset, source)
    else:
        _measure(options, model, dataset, source)
        if options.model_dir:
            print(
                f"next: tfdet-infer --model_dir={options.model_dir} --input=IMAGES "
                "--output_dir=FOLDER draws what it finds"
            )


def _calibrate(
    options: types.SimpleNamespace, model: "Dynamic", dataset: "DetectionDataset"
) -> None:
    from tfdet.training import router_step

    path, table = router_step.calibrate(model, options.model_dir, dataset, options.batch_size)
    print(f"{'effort':>6}{'share':>7}{'threshold':>11}{'GMAC':>10}{'ms':>9}")
    for i in range(0, len(table.thresholds), 10):
        print(
            f"{i / 100:>6.1f}{format(100 * table.shares[i], '.0f') + ' %':>7}"
            f"{table.thresholds[i]:>11.6f}{table.macs[i] / 1e9:>10.4g}{table.latency_ms[i]:>9.4g}"
        )
    print(
        f"wrote {path}\nnext: tfdet-infer --model_dir={options.model_dir} --input=IMAGES "
        "--output_dir=FOLDER --effort=0.5"
    )


def _trade_off(
    options: types.SimpleNamespace, model: "Dynamic", dataset: "DetectionDataset", source: str
) -> None:
    from tfdet.evaluation import tradeoff
    from tfdet.visualization import tradeoff as tradeoff_figure

    how = (options.batch_size, progress.ImageCounter, options.random_draws)
    if options.report_dir:
        _set_threshold(options, model)
        result, measured = tradeoff.with_measurement(model, dataset, *how)
        print(tradeoff.format_table(result))
        eval_report.write(options.report_dir, model, source, measured, {"tradeoff": result})
    else:
        result = tradeoff.trade_off(model, dataset, *how)
        print(tradeoff.format_table(result))
    if options.json_out:
        _write(options.json_out, json.dumps({**result, "data": source}, indent=1))
    if options.figure_out:
        tradeoff_figure.draw({**result, "data": source}, options.figure_out)
        print(f"wrote {options.figure_out}")


def _measure(
    options: types.SimpleNamespace, model: "Detector", dataset: "DetectionDataset", source: str
) -> None:
    from tfdet.evaluation import coco

    _set_threshold(options, model)
    started = time.monotonic()
    evaluation = coco.Evaluation(model, dataset, options.batch_size)
    other = eval_report.other_evaluation(options, evaluation) if options.compared_with else None
    evaluator = evaluation.run(progress.ImageCounter())
    metrics = evaluator.result()
    print(coco.format_table(metrics))
    if evaluation.costs:
        print(_cost_line(model, evaluation.costs))
    routes = _report_routes(options, model, evaluation) if options.routes else {}
    if evaluator.num_left_out:
        print(f"left out: {evaluator.num_left_out} images that cannot be read; see tfdet-data")
    if options.json_out:
        facts = {
            "data": source,
            "images": len(dataset) - evaluator.num_left_out,
            "left_out": evaluator.num_left_out,
            "seconds": round(time.monotonic() - started, 1),
            **evaluation.costs,
            **routes,
        }
        _write(options.json_out, json.dumps({**facts, "metrics": metrics}, indent=1))
    if options.detections_out:
        _write(options.detections_out, json.dumps(evaluator.detections()))
    if options.report_dir:
        measured = coco.Measured(evaluator, metrics, evaluation.routes)
        compared = eval_report.measured_other(options.compared_with, other) if other else None
        eval_report.write(options.report_dir, model, source, measured, compared=compared)


def _set_threshold(options: types.SimpleNamespace, model: "Detector") -> None:
    from tfdet.serving import driver

    threshold = flags.chosen_threshold(options, driver.ModelDriver(model))
    if threshold is not None:
        model.threshold = threshold


def _report_routes(
    options: types.SimpleNamespace, model: "CADDet", evaluation: "coco.Evaluation"
) -> dict[str, dict[str, Any]]:
    """Prints how different the routes of a CADDet were; gives the numbers for the JSON file."""
    from tfdet.evaluation import routes
    from tfdet.visualization import draw, route_figures

    facts = routes.facts_of(model, evaluation)
    print(routes.format_facts(facts))
    if options.figure_out:
        draw.save_picture(options.figure_out, route_figures.diversity_of(model, evaluation))
        print(f"wrote {options.figure_out}")
    return {"routes": facts}


def _cost_line(model: "Detector", costs: dict[str, float]) -> str:
    at = f"threshold {model.threshold:g}: " if model.is_dynamic else ""
    share = f"{100 * costs['share']:.1f} % of the images were hard; " if "share" in costs else ""
    return f"{at}{share}{costs['macs'] / 1e9:.4g} GMAC per image"


def _check(options: types.SimpleNamespace) -> None:
    given = flags.check_model(options)
    flags.check_positive(options, "batch_size")
    if given == "model_name" and not options.weights:
        raise app.UsageError("--model_name needs --weights: random weights detect nothing")
    if given == "model_name" and not options.data:
        raise app.UsageError("--model_name needs --data")
    flags.check_effort(options)
    _check_modes(options)
    outputs.check(options)
    if options.report_dir:
        eval_report.check(options.report_dir, options.overwrite)


def _check_modes(options: types.SimpleNamespace) -> None:
    """Refuses flags that the chosen kind of measurement would leave without effect."""
    if options.calibrate and options.tradeoff:
        raise app.UsageError("give only one of --calibrate and --tradeoff")
    if options.calibrate and not options.model_dir:
        raise app.UsageError("--calibrate keeps its table in --model_dir; give that")
    effort = set(flags.EFFORT_FLAGS)
    useless = {
        "calibrate": effort
        | {"json_out", "detections_out", "figure_out", "report_dir", "overwrite"}
        | {"random_draws", "routes", "compared_with"},
        # The report has more than the trade-off, which is measured at the chosen effort.
        "tradeoff": {"detections_out", "routes", "compared_with"}
        | (set() if options.report_dir else effort),
        "": {"figure_out", "random_draws"} - ({"figure_out"} if options.routes else set()),
    }
    mode = "calibrate" if options.calibrate else "tradeoff" if options.tradeoff else ""
    wrong = sorted(options.given & useless[mode])
    if wrong:
        home = "--tradeoff or --routes" if wrong[0] == "figure_out" else "--tradeoff"
        raise app.UsageError(
            f"--{mode} takes no --{wrong[0]}" if mode else f"--{wrong[0]} belongs to {home}"
        )
    if options.compared_with and not options.report_dir:
        raise app.UsageError("--compared_with writes into a report; give --report_dir too")
    flags.check_positive(options, "random_draws")


def _validation_data(model_dir: str) -> str:
    from tfdet.training import trained

    source = trained.trained_recipe(model_dir).data.val
    if not source:
        raise app.UsageError(f"the recipe in {model_dir} names no validation data; give --data")
    return source


def _write(path: str, text: str) -> None:
    from tfdet import files

    files.write_text(path, f"{text}\n")
    print(f"wrote {path}")


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
