"""AP against cost of a dynamic detector, at eleven efforts."""

from collections.abc import Callable, Mapping
from typing import Any

from tfdet.data.dataset import DetectionDataset
from tfdet.detectors import cost_measurement
from tfdet.detectors.calibration import mixed
from tfdet.detectors.dynamic import Dynamic
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.errors import UserError
from tfdet.evaluation import cascade_tradeoff, coco

EFFORTS = cascade_tradeoff.SHARES

# Gives a function of (images done, all) for each pass over the data.
Progress = Callable[[], Callable[[int, int], None]]


def trade_off(
    model: Dynamic,
    dataset: DetectionDataset,
    batch_size: int = 8,
    progress: Progress | None = None,
    random_draws: int | None = None,
) -> dict[str, Any]:
    """AP at eleven efforts, as plain numbers, ready for JSON.

    Args:
        model: the detector. Of a cascade one pass over the data is enough. Others go over it for
            each effort and must be calibrated, best on other data; their threshold is what it was
            at the end.
        dataset: the data.
        batch_size: images per step.
        progress: see `Progress`.
        random_draws: of a cascade, how many random routings are averaged for each share.

    Returns:
        "data", "images"; "curve": a row per effort with the "share" of what can be skipped that was
        computed, "threshold", "macs", "latency_ms" and the COCO numbers; "targets": the target
        costs that led to the rows, and what they came to. Of a cascade more, see
        `cascade_tradeoff.trade_off`.
    """
    if isinstance(model, DynamicDetector):
        paths = _paths(model, dataset, batch_size, progress)
        return cascade_tradeoff.trade_off(model, paths, _draws(random_draws))
    if random_draws is not None:
        raise UserError(
            f"{model.name} has no random routing to compare with: random_draws is for cascades"
        )
    threshold = model.threshold
    try:
        return _of_passes(model, dataset, batch_size, progress)
    finally:
        model.threshold = threshold


def with_measurement(
    model: Dynamic,
    dataset: DetectionDataset,
    batch_size: int = 8,
    progress: Progress | None = None,
    random_draws: int | None = None,
) -> tuple[dict[str, Any], coco.Measured]:
    """The `trade_off`, and what is measured at the model's own threshold.

    The one pass over the data that a cascade needs is enough for both; others take one more.

    Args:
        model, dataset, batch_size, progress, random_draws: as in `trade_off`.
    """
    if isinstance(model, DynamicDetector):
        paths = _paths(model, dataset, batch_size, progress)
        result = cascade_tradeoff.trade_off(model, paths, _draws(random_draws))
        is_hard = paths.hard_at(model.threshold)
        evaluator = paths.evaluator(is_hard)
        routes = paths.reports(is_hard, model.cost_ends)
        return result, coco.Measured(evaluator, evaluator.result(), routes)
    result = trade_off(model, dataset, batch_size, progress, random_draws)
    evaluation = coco.Evaluation(model, dataset, batch_size)
    evaluator = evaluation.run(progress() if progress else None)
    return result, coco.Measured(evaluator, evaluator.result(), evaluation.routes)


def _paths(
    model: DynamicDetector, dataset: DetectionDataset, batch_size: int, progress: Progress | None
) -> cascade_tradeoff.Paths:
    both = cascade_tradeoff.BothPaths(model, dataset, batch_size)
    return both.run(progress() if progress else None)


def _draws(random_draws: int | None) -> int:
    return cascade_tradeoff.RANDOM_DRAWS if random_draws is None else random_draws


def _of_passes(
    model: Dynamic, dataset: DetectionDataset, batch_size: int, progress: Progress | None
) -> dict[str, Any]:
    if model.calibration is None:
        raise UserError("a trade-off needs a calibration: run `tfdet-eval --calibrate` first")
    evaluation = coco.Evaluation(model, dataset, batch_size)
    ends, samples = model.cost_ends, cost_measurement.sample_canvases(model, dataset)
    latency = cost_measurement.latency_ms(model, samples)
    known = model.calibration.target_range("target_madds")
    curve, targets = [], []
    for effort in EFFORTS:
        target = float(mixed(known, effort))
        model.effort = effort
        metrics = evaluation.run(progress() if progress else None).result()
        reached = evaluation.costs["macs"]
        share = (reached - ends[0]) / (ends[1] - ends[0])
        row = {"share": share, "threshold": model.threshold, "macs": reached}
        row["latency_ms"] = float(mixed(latency, share))
        curve.append(row | {name: metrics[name] for name in coco.METRICS})
        row = {"target": target, "threshold": model.threshold, "share": share, "reached": reached}
        targets.append({**row, "error": reached / target - 1})
    return {
        "data": dataset.name,
        "images": len(dataset),
        "curve": curve,
        "targets": {"target_madds": targets},
    }


def format_table(result: Mapping[str, Any]) -> str:
    """The curve as a table for people; AP in percent."""
    columns = {"AP": "AP", "AP50": "AP50", "random": "AP_random", "oracle": "AP_oracle"}
    columns["mask AP"] = coco.MASK + "AP"
    columns = {name: key for name, key in columns.items() if key in result["curve"][0]}
    names = "".join(f"{name:>8}" for name in columns)
    lines = [f"{'share':>6}{'threshold':>11}{'GMAC':>10}{'ms':>9}{names}"]
    for row in result["curve"]:
        scores = "".join(f"{100 * row[key]:>8.1f}" for key in columns.values())
        lines.append(
            f"{format(100 * row['share'], '.0f') + ' %':>6}{row['threshold']:>11.6f}"
            f"{row['macs'] / 1e9:>10.4g}{row['latency_ms']:>9.4g}{scores}"
        )
    if "above_line" in result:
        above = ", ".join(f"{name} {100 * x:+.2f}" for name, x in result["above_line"].items())
        lines.append(f"AP gained over interpolating between the two detectors, on average: {above}")
    for name, rows in result["targets"].items():
        worst = max(abs(row["error"]) for row in rows)
        lines.append(f"{name}: {len(rows)} targets met within {100 * worst:.1f} %")
    return "\n".join(lines)
