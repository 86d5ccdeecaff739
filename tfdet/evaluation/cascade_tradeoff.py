"""AP against cost of a cascade of two detectors, from one pass over the data.

Both detectors' detections of every image are kept; a threshold then merges them into one set of
results, which is measured as a whole.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data.dataset import DetectionDataset
from tfdet.detectors import cost_measurement
from tfdet.detectors.base import to_original
from tfdet.detectors.calibration import Calibration, mixed, share_at, threshold_of_share
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.evaluation import coco, sharing
from tfdet.ops.as_written import as_written

# "/0" to "/100": percent of the images that take the late path.
SHARES = tuple(i / 10 for i in range(11))
RANDOM_DRAWS = 3
_TARGETS = 10


@dataclasses.dataclass(frozen=True)
class Paths:
    """What both paths find in each image of a data set.

    Attributes:
        dataset: the data set.
        index: [N] positions in it.
        easiness: [N] the router's scores.
        gains: [N] loss of the first detector minus loss of the second.
        early, late: detections by either path, [N, ...].
    """

    dataset: DetectionDataset
    index: np.ndarray
    easiness: np.ndarray
    gains: np.ndarray
    early: Mapping[str, np.ndarray]
    late: Mapping[str, np.ndarray]

    def hard_at(self, threshold: float) -> np.ndarray:
        """[N] bool: which images the router sends to the second detector."""
        if threshold <= 0 or threshold >= 1:
            return np.full(len(self.index), threshold >= 1)
        return self.easiness < np.float32(threshold)

    def metrics(self, is_hard: np.ndarray, with_masks: bool = True) -> dict[str, float]:
        """The COCO numbers of one set of results, see `evaluator`."""
        return self.evaluator(is_hard, with_masks).result()

    def reports(self, is_hard: np.ndarray, macs: tuple[float, float]) -> dict[str, np.ndarray]:
        """What the detector reports about each image, as `coco.Evaluation.routes`.

        Args:
            is_hard: [N], which images take the late path.
            macs: of the early and of the late path.
        """
        costs = np.where(is_hard, macs[1], macs[0]).astype(np.float32)
        return {
            "index": self.index,
            "easiness": self.easiness,
            "is_hard": is_hard,
            "macs": costs,
        }

    def evaluator(self, is_hard: np.ndarray, with_masks: bool = True) -> coco.CocoEvaluator:
        """One set of results, merged image by image.

        Args:
            is_hard: [N], which images take the late path.
            with_masks: have masks too where there are any.
        """
        evaluator = coco.CocoEvaluator(self.dataset)
        merged = {
            name: np.where(_rows(is_hard, early), self.late[name], early)
            for name, early in self.early.items()
            if with_masks or name != "masks"
        }
        evaluator.add(self.index, merged)
        evaluator.leave_out(set(range(len(self.dataset))) - set(self.index.tolist()))
        return evaluator


class BothPaths:
    """Runs both paths of a `DynamicDetector` on a data set, as often as wanted.

    Args:
        model: its weights at the time of `run` are the ones used.
        dataset: `DetectionDataset`.
        batch_size: images per step, at most all there are.
        share_with: the processes that share the work; all of them call `run`.
    """

    def __init__(
        self,
        model: DynamicDetector,
        dataset: DetectionDataset,
        batch_size: int = 8,
        share_with: sharing.Sharing = sharing.ALONE,
    ):
        from tfdet.data import loader

        self._dataset = coco.known_classes(model, dataset)
        loader.check_usable(self._dataset)
        self._label_map = coco.label_map(model, self._dataset)
        self._model = model
        self._batch_size = min(batch_size, len(self._dataset))
        self._sharing = share_with
        self._run = _compile(model, self._label_map)

    def run(self, progress: Callable[[int, int], None] | None = None) -> Paths:
        """What both paths find; `progress(done, total)` is called after each batch."""
        from tfdet.data import pipeline

        model, size = self._model, self._batch_size
        self._sharing.prepare(model)
        # The losses that gains are made of want the objects' masks.
        masks = model.mask_size if self._dataset.outlines is not None else 0
        batches = pipeline.eval_batches(
            self._dataset,
            model.image_size,
            size,
            model.pad_value,
            mask_size=masks,
            shard=self._sharing.shard,
        )
        parts: list[dict[str, np.ndarray]] = []
        total, processes = len(self._dataset), self._sharing.shard[1]
        for images, targets in batches:
            index = np.asarray(targets.pop("index"))
            inputs = tf.nest.map_structure(lambda x: coco.filled(x, size), (images, targets))
            found = _first_rows(self._run(*inputs), len(index))
            parts.append({"index": index, **self._flat(found)})
            if progress:
                done = processes * sum(len(part["index"]) for part in parts)
                progress(min(done, total), total)
        own = {name: np.concatenate([x[name] for x in parts]) for name in (parts or [{}])[0]}
        found = sharing.gathered(self._sharing, own)
        order = np.argsort(found["index"], kind="stable")
        found = {name: values[order] for name, values in found.items()}
        return Paths(
            self._dataset,
            *(found[name] for name in ("index", "easiness", "gains")),
            *(_below(found, path) for path in ("early", "late")),
        )

    def _flat(self, found: dict[str, Any]) -> dict[str, np.ndarray]:
        """Both paths' detections beside the rest, with the labels of the data set."""
        flat = {name: found[name] for name in ("easiness", "gains")}
        for path in ("early", "late"):
            labels = found[path]["labels"]
            known = np.where(labels >= 0, self._label_map[labels], -1)
            flat |= {f"{path}/{k}": x for k, x in {**found[path], "labels": known}.items()}
        return flat


def _below(arrays: Mapping[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    prefix = f"{path}/"
    return {k.removeprefix(prefix): x for k, x in arrays.items() if k.startswith(prefix)}


def _first_rows(tensors: Any, count: int) -> Any:
    return tf.nest.map_structure(lambda x: np.asarray(x)[:count], tensors)


def _compile(model: DynamicDetector, label_map: np.ndarray) -> Callable[..., dict[str, Any]]:
    # From labels of the data to those of the model; one more row for images that fill a batch up.
    model_label = np.full(max(2, label_map.max() + 1), -1, np.int32)
    model_label[label_map[label_map >= 0]] = np.flatnonzero(label_map >= 0)

    @tf.function
    @as_written
    def run(images: tf.Tensor, targets: dict[str, tf.Tensor]) -> dict[str, Any]:
        scale, size, labels = targets["scale"], targets["size"], targets["labels"]
        known = tf.gather(model_label, tf.maximum(labels, 0))
        truth = {**targets, "labels": tf.where(labels >= 0, known, -1)}
        raw = model(images, training=False)
        first, second = model.losses_of_paths(truth, raw)
        found = {"easiness": raw["easiness"], "gains": first - second}
        for path, role in (("early", "first"), ("late", "second")):
            detections = model.decode_part(role, raw[role])
            found[path] = to_original(detections, scale, (size[:, 0], size[:, 1]))
        return found

    return run


def trade_off(
    model: DynamicDetector,
    paths: Paths,
    random_draws: int = RANDOM_DRAWS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The whole comparison as plain numbers, ready for JSON.

    Args:
        model: the detector, for its costs and its calibration.
        paths: of a data set.
        random_draws: how many random routings are averaged for each share.
        progress: called with (done, total) measurements.

    Returns:
        "curve": a row per share of `SHARES` with "share", "threshold", "macs", "latency_ms", the
        COCO numbers (those of masks too where there are any), and "AP_random" and "AP_oracle" of as
        many images chosen blindly, and by who gains most in loss; "static": the two detectors
        without a router; "above_line": what the three routings gain over interpolating between the
        two detectors, in AP, on average over the shares between them; "targets": target costs and
        latencies, see `target_errors`.
    """
    macs = model.cost_ends
    samples = cost_measurement.sample_canvases(model, paths.dataset)
    latency = cost_measurement.latency_ms(model, samples)
    total = len(SHARES) + (len(SHARES) - 2) * (1 + random_draws)
    done = 0

    def measure(is_hard: np.ndarray, with_masks: bool = False) -> dict[str, float]:
        nonlocal done
        metrics = paths.metrics(is_hard, with_masks)
        done += 1
        if progress:
            progress(done, total)
        # Without those of single classes.
        return {
            name: value
            for name, value in metrics.items()
            if name.removeprefix(coco.MASK) in coco.METRICS
        }

    curve = []
    for wanted in SHARES:
        threshold = float(threshold_of_share(paths.easiness, wanted))
        is_hard = paths.hard_at(threshold)
        share = float(is_hard.mean())
        row = {
            "share": share,
            "threshold": threshold,
            "macs": float(mixed(macs, share)),
            "latency_ms": float(mixed(latency, share)),
            **measure(is_hard, with_masks=True),
        }
        row |= _references(paths, int(is_hard.sum()), random_draws, measure, row["AP"])
        curve.append(row)
    return {
        "data": paths.dataset.name,
        "images": len(paths.index),
        "curve": curve,
        "static": _static(model, macs, curve),
        "above_line": _above_line(curve),
        "targets": target_errors(model.calibration, paths, macs, latency),
    }


def target_errors(
    table: Calibration | None,
    paths: Paths,
    macs: tuple[float, float],
    latency_ms: tuple[float, float],
) -> dict[str, list[dict[str, float]]]:
    """How well a calibration meets ten targets each on data that it has not seen.

    Args:
        table: the calibration; None gives an empty result.
        paths: of the data.
        macs, latency_ms: the costs of the two paths, today.

    Returns:
        "target_madds" and "target_latency_ms": rows with "target", "threshold", "share", what it
        came to ("reached") and its relative "error".
    """
    if table is None:
        return {}
    ends = {
        "target_madds": ((table.macs[0], table.macs[-1]), macs),
        "target_latency_ms": ((table.latency_ms[0], table.latency_ms[-1]), latency_ms),
    }
    errors: dict[str, list[dict[str, float]]] = {}
    for name, (known, today) in ends.items():
        rows = errors[name] = []
        for position in (np.arange(_TARGETS) + 0.5) / _TARGETS:
            target = float(mixed(known, position))
            threshold = table.threshold_for(**{name: target})
            share = share_at(paths.easiness, threshold)
            reached = float(mixed(today, share))
            row = {"target": target, "threshold": threshold, "share": share, "reached": reached}
            rows.append({**row, "error": reached / target - 1})
    return errors


def _references(
    paths: Paths,
    count: int,
    draws: int,
    measure: Callable[[np.ndarray], dict[str, float]],
    routed: float,
) -> dict[str, float]:
    """AP where as many images are chosen at random, and by their gain."""
    images = len(paths.index)
    if count in (0, images):  # all routings are one
        return {"AP_random": routed, "AP_oracle": routed}
    chosen = [np.random.default_rng(seed).permutation(images)[:count] for seed in range(draws)]
    random = [measure(_mask(rows, images))["AP"] for rows in chosen]
    best = np.argsort(-paths.gains, kind="stable")[:count]
    return {
        "AP_random": float(np.mean(random)),
        "AP_oracle": measure(_mask(best, images))["AP"],
    }


def _static(
    model: DynamicDetector, macs: tuple[float, float], curve: list[dict]
) -> dict[str, dict]:
    """Both ends without what the router costs."""
    router = model.router_macs
    return {
        name: {"macs": cost - router, "AP": row["AP"]}
        for name, cost, row in zip(("first", "second"), macs, (curve[0], curve[-1]), strict=True)
    }


def _above_line(curve: list[dict]) -> dict[str, float]:
    shares = np.array([row["share"] for row in curve[1:-1]])
    line = mixed((curve[0]["AP"], curve[-1]["AP"]), shares)
    names = {"router": "AP", "random": "AP_random", "oracle": "AP_oracle"}
    return {
        name: float(np.mean([row[key] for row in curve[1:-1]] - line))
        for name, key in names.items()
    }


def _mask(rows: np.ndarray, length: int) -> np.ndarray:
    mask = np.zeros(length, bool)
    mask[rows] = True
    return mask


def _rows(is_hard: np.ndarray, values: np.ndarray) -> np.ndarray:
    return is_hard.reshape(-1, *[1] * (values.ndim - 1))
