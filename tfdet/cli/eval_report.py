"""`tfdet-eval --report_dir`: the page and the figures of a measurement."""

import json
import pathlib
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from tfdet import files, progress
from tfdet.cli import app, flags
from tfdet.errors import UserError

if TYPE_CHECKING:
    from tfdet.detectors.base import Detector
    from tfdet.detectors.caddet import CADDet
    from tfdet.evaluation import coco
    from tfdet.evaluation.analysis import Analysis
    from tfdet.visualization.page import Picture

PAGE, FIGURES = "report.html", "report.json"
WRITER = "tfdet-eval"


def check(folder: str, overwrite: bool) -> None:
    """Refuses, ahead of the work, a folder that is none, or whose report somebody else wrote."""
    path = pathlib.Path(folder)
    if path.exists() and not path.is_dir():
        raise app.UsageError(f"--report_dir={folder} is a file; give a folder")
    there = [path / name for name in (PAGE, FIGURES) if (path / name).exists()]
    if there and not (overwrite or _is_ours(path)):
        raise UserError(
            f"--report_dir={folder} holds {there[0].name}, and tfdet-eval cannot tell that it "
            "wrote it; give another folder, or --overwrite to replace it"
        )
    flags.check_writable(path, "report_dir")


def _is_ours(folder: pathlib.Path) -> bool:
    try:
        facts = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(facts, dict) and str(facts.get("written_by", "")).startswith(WRITER)


class Other(NamedTuple):
    """Another detector on the same data: its folder, and what its measurement came to."""

    folder: str
    measured: "coco.Measured"


def other_evaluation(
    options: types.SimpleNamespace, evaluation: "coco.Evaluation"
) -> "coco.Evaluation":
    """Loads the detector of `--compared_with`, ahead of the work, for the data of `evaluation`."""
    from tfdet.evaluation import coco
    from tfdet.training import trained

    model = trained.load_trained(options.compared_with)
    names = evaluation.dataset.class_names
    lacking = [name for name in names if name not in (model.config.class_names or names)]
    if lacking:
        raise UserError(
            f"--compared_with={options.compared_with} has no class {lacking[0]!r}, which is "
            "measured here; compare detectors of the same classes"
        )
    return coco.Evaluation(model, evaluation.dataset, options.batch_size)


def measured_other(folder: str, evaluation: "coco.Evaluation") -> Other:
    """Measures the detector of `--compared_with`."""
    from tfdet.evaluation import coco

    print(f"measuring {folder} on the same data", flush=True)
    evaluator = evaluation.run(progress.ImageCounter())
    return Other(folder, coco.Measured(evaluator, evaluator.result(), evaluation.routes))


def write(
    folder: str,
    model: "Detector",
    source: str,
    measured: "coco.Measured",
    more: dict[str, Any] | None = None,
    compared: Other | None = None,
) -> None:
    """Writes the report of a measurement.

    Args:
        folder: that it is written to; made where it is not there.
        model: the detector as it was measured.
        source: of the data, as the user named it.
        measured: what it came to.
        more: further figures of a dynamic detector.
        compared: another detector on the same data.
    """
    from tfdet import version
    from tfdet.evaluation import analysis, dynamic_figures, findings, report
    from tfdet.visualization import report_page, report_pictures

    evaluator = measured.evaluator
    boxes = analysis.analyse(findings.of(evaluator))
    masks = None
    if evaluator.masks is not None:
        masks = analysis.analyse(findings.of(evaluator, of_masks=True), of_masks=True)
    figures = {
        "written_by": f"{WRITER} of tfdet {version.__version__}",
        "model": model.name,
        "data": source,
        "left_out": evaluator.num_left_out,
        **report.figures(boxes, measured.metrics, masks),
    }
    picture = None
    if model.is_dynamic:
        own = dynamic_figures.dynamic_figures(model, measured.routes, boxes)
        figures["dynamic"] = {**own, **(more or {})}
        if model.route_map is not None:
            picture = _add_routes(figures["dynamic"], model, source, measured)
    galleries = [report_pictures.Gallery(boxes)]
    if compared is not None:
        others = analysis.analyse(findings.of(compared.measured.evaluator))
        galleries.append(report_pictures.Gallery(others))
        figures["compared"] = _compare(boxes, others, measured, compared)
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    files.write_text(path / PAGE, report_page.report_page(figures, *galleries, routes=picture))
    files.write_text(path / FIGURES, f"{json.dumps(figures, indent=1, allow_nan=False)}\n")
    print(f"wrote {path / PAGE} and {path / FIGURES}")


def _compare(
    boxes: "Analysis", others: "Analysis", measured: "coco.Measured", compared: Other
) -> dict[str, Any]:
    """The figures of a comparison, which is also printed in a sentence."""
    from tfdet.evaluation import comparison

    own, other = measured.metrics, compared.measured.metrics
    facts = {"with": compared.folder, **comparison.compared(boxes, others, own, other)}
    print(comparison.sentence(compared.folder, facts, own))
    return facts


def _add_routes(
    facts: dict[str, Any], model: "CADDet", source: str, measured: "coco.Measured"
) -> "Picture":
    """Puts the numbers of a CADDet's routes among the figures; gives their picture."""
    from tfdet.evaluation import routes
    from tfdet.visualization import page, route_figures

    config, gates = model.config.supernet, measured.routes[model.score]
    macs = measured.routes["macs"]
    traits = routes.traits(
        measured.evaluator.dataset,
        measured.routes["index"],
        model.image_size,
        model.config.routing_loss,
    )
    facts["routes"] = routes.route_facts(config, gates, macs, traits)
    title = f"{model.name} on {source}, {len(macs)} images"
    drawn = route_figures.diversity(config, gates, macs, traits, title)
    words = (
        f"How often each path is open, what each image has open, and what it costs: "
        f"{facts['routes']['routes']} different routes."
    )
    return page.encoded(drawn, words)
