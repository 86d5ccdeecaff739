"""AP against cost of a CADDet, whose gates close at a threshold: a pass over the data for each."""

from collections.abc import Callable
from typing import Any

from tfdet.detectors.calibration import mixed
from tfdet.errors import UserError
from tfdet.evaluation import calibration, coco
from tfdet.evaluation.tradeoff import SHARES


def trade_off(
    model: Any,
    dataset: Any,
    batch_size: int = 8,
    progress: Callable[[], Callable[[int, int], None]] | None = None,
) -> dict[str, Any]:
    """AP at the thresholds that the model's calibration gives for eleven costs.

    Args:
        model: a `CADDet` that is calibrated, best on other data. Its knob is where it was at the
            end.
        dataset: `DetectionDataset`.
        batch_size: images per step.
        progress: gives a function of (images done, all) for each pass.

    Returns:
        As `tradeoff.trade_off`, as far as it makes sense where no image has one of two paths:
        "share" is the open part of the grid, and "targets" has the wishes for a cost that led to
        the rows.
    """
    if model.calibration is None:
        raise UserError("--tradeoff needs a calibration: run `tfdet-eval --calibrate` first")
    evaluation, knob = coco.Evaluation(model, dataset, batch_size), model.knob
    ends, samples = model.cost_ends, calibration.sample_canvases(model, dataset)
    latency = calibration.latency_ms(model, samples)
    least, most = model.calibration.macs[0], model.calibration.macs[-1]
    curve, wishes = [], []
    for position in SHARES:
        target = float(mixed((least, most), position))
        model.knob = model.threshold_for(target_madds=target)
        metrics = evaluation.run(progress() if progress else None).result()
        reached = evaluation.costs["macs"]
        share = (reached - ends[0]) / (ends[1] - ends[0])
        row = {"share": share, "threshold": model.knob, "macs": reached}
        row["latency_ms"] = float(mixed(latency, share))
        curve.append(row | {name: metrics[name] for name in coco.METRICS})
        wish = {"target": target, "threshold": model.knob, "share": share, "reached": reached}
        wishes.append({**wish, "error": reached / target - 1})
    model.knob = knob
    return {
        "data": dataset.name,
        "images": len(dataset),
        "curve": curve,
        "targets": {"target_madds": wishes},
    }
