"""One model of a server: images in, fitted, batched and detected in at a chosen effort."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdet.data import decode
from tfdet.errors import UserError
from tfdet.serving import batches, image_status
from tfdet.serving.driver import SavedModelDriver
from tfdet.serving.effort_inputs import NOT_GIVEN
from tfdet.serving.server import images, saved_model
from tfdet.serving.server.batching import BatchQueue, Ticket
from tfdet.serving.server.effort_controller import BatchTimes, EffortController, shares_of
from tfdet.serving.server.metrics import EFFORTS, IMAGES, SECONDS, Metrics
from tfdet.serving.server.refusal import Refusal, invalid
from tfdet.serving.server.requests import PredictRequest

ENCODED, PIXELS, FITTED = "serving_encoded", "serving_default", "serving_fitted"
# Fitted images that may wait, in bytes, where the number is not chosen.
_QUEUE_BYTES, _FEWEST, _MOST = 256 << 20, 16, 256
_REPEATS = 3


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """How models are served.

    Attributes:
        batch_size: images in a batch; None chooses by the size of the network's images.
        max_wait_ms: how long an image waits for others to share a batch with.
        queue_size: images that are accepted at a time, per model; None for as many as 256 MB hold.
        max_image_pixels: that an encoded image may have.
        effort: of calibrated dynamic models, for requests without one; None for the model's own.
        slo_ms: have the server choose the effort, for the 95th percentile to stay below this.
    """

    batch_size: int | None = None
    max_wait_ms: float = 5.0
    queue_size: int | None = None
    max_image_pixels: int = 25_000_000
    effort: float | None = None
    slo_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """An image that waits for the network.

    Attributes:
        canvas: float32 [*image_size, 3], what the network sees.
        scale: canvas pixels per image pixel.
        size: (height, width) of the image.
        effort: that the request asks for; None leaves it to the server.
        threshold: in place of an effort.
        min_effort: bounds the server's choice.
    """

    canvas: np.ndarray
    scale: np.ndarray
    size: tuple[int, int]
    effort: float | None = None
    threshold: float | None = None
    min_effort: float = 0.0


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found in an image: outputs by name, without the axis of the batch; and when."""

    outputs: dict[str, np.ndarray]
    queue_ms: float = 0.0
    detect_ms: float = 0.0


Queue = BatchQueue[Prepared, Row]


class ServedModel:
    """A SavedModel of `tfdet-export`, ready to answer.

    Args:
        name: that requests use.
        folder: see `saved_model.find_version`.
        options: how it is served.
        samples: encoded images to warm up with and to measure on.
        metrics: that it counts in, see `describe_metrics`.
    """

    def __init__(
        self,
        name: str,
        folder: str | pathlib.Path,
        options: ServingOptions,
        samples: Sequence[bytes],
        metrics: Metrics,
    ):
        path, self.version = saved_model.find_version(folder)
        self.name = name
        self._driver = SavedModelDriver(path)
        if self._driver.pad_value is None:
            raise UserError(f"{path} was exported by an earlier version; export it again")
        definitions = saved_model.read_signatures(path)
        self.metadata = saved_model.metadata_json(name, self.version, definitions)
        self.inputs = {
            key: saved_model.input_specs(definitions[key]) for key in (ENCODED, PIXELS, FITTED)
        }
        self._options = options
        self._metrics = metrics
        size = options.batch_size or batches.default_batch_size(self._driver.image_size)
        self._detector = batches.BatchDetector(self._driver, size)
        self.batch_size = size
        self._effort = options.effort if self.calibration else None
        own = self._driver.threshold
        self._own_effort: float = self.calibration.effort_at(own) if self.calibration else 1.0
        self.controller: EffortController | None = None
        fitted = [self._fit_pixels(decode.decode_image(sample)) for sample in samples]
        times, outputs = self._measure(fitted)
        self._nothing = _no_row(outputs)
        if options.slo_ms is not None and self.calibration:
            self.controller = EffortController(times, shares_of(self.calibration), options.slo_ms)
        self.queue: Queue = BatchQueue(
            self._compute, size, options.max_wait_ms / 1e3, self.queue_size
        )
        metrics.read("queue_images", lambda: len(self.queue.waiting()), model=name)
        if self.controller:
            metrics.read("batch_time_factor", lambda: self._factor, model=name)

    @property
    def _factor(self) -> float:
        return self.controller.factor if self.controller else 1.0

    @property
    def is_limit_too_low(self) -> bool:
        """Whether one image alone, with the least effort, takes about as long as `slo_ms`."""
        return self.controller is not None and self.controller.is_hopeless(0)

    @property
    def calibration(self) -> Any:
        """The table from effort to cost; None of a static model, or of one without it."""
        return self._driver.calibration

    @functools.cached_property
    def queue_size(self) -> int:
        """Images that are accepted at a time."""
        canvas = 12 * int(np.prod(self._driver.image_size))
        fitting = min(_MOST, max(_FEWEST, _QUEUE_BYTES // canvas))
        return self._options.queue_size or max(fitting, 2 * self.batch_size)

    def about(self) -> dict[str, Any]:
        """What the page shows."""
        table, effort = None, None
        if self.calibration:
            table = {name: getattr(self.calibration, name)[::5] for name in ("macs", "latency_ms")}
            effort = self._own_effort if self._effort is None else self._effort
        return {
            "name": self.name,
            "version": self.version,
            "image_size": list(self._driver.image_size),
            "class_names": list(self._driver.class_names),
            "is_dynamic": self._driver.threshold is not None,
            "threshold": self._driver.threshold,
            "effort": effort,
            "calibration": table,
            "slo_ms": self._options.slo_ms if self.controller else None,
        }

    def output_names(self, signature: str) -> list[str]:
        """The outputs of a signature, and the `effort` where there is one."""
        about = ["is_readable", "status"] if signature == ENCODED else []
        return [*self._nothing, *about]

    def reserve(self, count: int, arrived: float) -> list[Ticket[Prepared, Row]]:
        """Places for the images of a request."""
        controller = self.controller
        if controller is None:
            return self.queue.reserve(count, arrived=arrived)

        def is_refused(held: int) -> bool:
            # Whoever finds nobody is let in: times are learned from what is computed.
            return held > 0 and controller.is_hopeless(held + count - 1)

        return self.queue.reserve(count, is_refused, arrived)

    def count_images(self, request: PredictRequest) -> int:
        """How many images a request has."""
        return len(request.inputs[self._main_input(request.signature)])

    def prepare(self, request: PredictRequest, i: int) -> Prepared:
        """Image `i` of a request as it goes into a batch; may be called from any thread.

        Raises:
            Refusal: the image cannot be used.
        """
        chosen = self._chosen(request, i)
        given = request.inputs[self._main_input(request.signature)][i]
        if request.signature == FITTED:
            scale, size = request.inputs["scale"][i], request.inputs["size"][i]
            if not (scale > 0 and size.min() > 0):
                raise invalid("scale and size must be above 0")
            return Prepared(given, scale, (int(size[0]), int(size[1])), **chosen)
        if request.signature == ENCODED:
            given = images.decoded(given, self._options.max_image_pixels)
        elif given.ndim != 3 or given.shape[2] != 3 or not given.size:
            raise invalid(
                f"images must be RGB, [B, H, W, 3], of at least one pixel; got {given.shape}"
            )
        return dataclasses.replace(self._fit_pixels(given), **chosen)

    def check(self, request: PredictRequest) -> None:
        """Refuses a request that the model cannot answer whatever its images are."""
        most = self.queue_size
        if self.count_images(request) > most:
            raise Refusal(413, f"at most {most} images fit into a request", "too_many_images")
        if request.min_effort and not self.calibration:
            raise invalid(f"{self.name} takes no min_effort: it has no calibration")
        for name in ("effort", "threshold"):
            values = request.inputs.get(name)
            if values is not None and values.size and values.max() > 1:
                raise invalid(f"{name} must be at most 1; -1 stands for none")

    def _chosen(self, request: PredictRequest, i: int) -> dict[str, Any]:
        def of(name: str) -> float | None:
            values = request.inputs.get(name)
            if values is None:
                return None
            value = float(values[i] if values.ndim else values)
            return value if value >= 0 else None

        effort = of("effort")
        if effort is not None:
            return {"effort": round(effort, 6)}  # float32 has 0.2 as 0.200000003
        return {"threshold": of("threshold"), "min_effort": request.min_effort}

    def _main_input(self, signature: str) -> str:
        return {ENCODED: "encoded", PIXELS: "images", FITTED: "fitted"}[signature]

    def _fit_pixels(self, image: np.ndarray) -> Prepared:
        fitted = self._detector.fit(image)
        assert fitted.canvas is not None, "the driver has a colour to pad with"
        height, width = image.shape[:2]
        return Prepared(fitted.canvas, fitted.scale, (height, width))

    def key(self, item: Prepared) -> Any:
        """Items of one batch have equal keys: what the signature takes one of for all images."""
        if item.threshold is not None:
            return ("threshold", item.threshold)
        if self._driver.takes_efforts or not self.calibration:
            return None
        return ("effort", item.effort, item.min_effort)

    def refused(self, refusal: Refusal) -> Row:
        """The row of an image that was not looked at."""
        is_large = refusal.reason == images.TOO_LARGE
        status = image_status.TOO_LARGE if is_large else image_status.DAMAGED
        about = {"is_readable": np.array(False), "status": np.array(status, np.int32)}
        return Row({**self._nothing, **about})

    def _compute(self, tickets: Sequence[Ticket[Prepared, Row]]) -> list[Row]:
        items = [ticket.item for ticket in tickets if ticket.item is not None]
        start = time.monotonic()
        efforts = self._efforts(items, start)
        found = self._detect(items, efforts)
        ms = 1e3 * (time.monotonic() - start)
        self._count(found, ms)
        rows = []
        for i, ticket in enumerate(tickets):
            outputs = {name: values[i] for name, values in found.items()}
            outputs["is_readable"] = np.array(True)
            outputs["status"] = np.array(image_status.DETECTED, np.int32)
            rows.append(Row(outputs, 1e3 * (start - ticket.queued), ms))
        return rows

    def _efforts(self, items: Sequence[Prepared], now: float) -> np.ndarray | None:
        """The effort of each image; None of a model without them, -1 for the model's own."""
        if not self.calibration or items[0].threshold is not None:
            return None
        common = self._effort
        if self.controller and any(item.effort is None for item in items):
            waiting = self.queue.waiting()
            ages = [1e3 * (now - ticket.arrived) for ticket in waiting]
            common = self.controller.choose(ages, [_floor(ticket.item) for ticket in waiting])

        def of(item: Prepared) -> float:
            if item.effort is not None:
                return item.effort
            if common is not None:
                return max(common, item.min_effort)
            return item.min_effort if item.min_effort > self._own_effort else NOT_GIVEN

        return np.array([of(item) for item in items], np.float64)

    def _detect(
        self, items: Sequence[Prepared], efforts: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Outputs of a batch by name, and the `effort` of each image of a calibrated model."""
        inputs = (
            np.stack([item.canvas for item in items]),
            np.array([item.scale for item in items], np.float32),
            np.array([item.size for item in items], np.int32),
        )
        if efforts is None:
            threshold = items[0].threshold
            found = self._driver.detect_fitted(*inputs, threshold)
            if not self.calibration:
                return found
            used = self.calibration.effort_at(threshold)
            return {**found, "effort": np.full(len(items), used, np.float32)}
        if self._driver.takes_efforts:
            found = self._driver.detect_at_efforts(*inputs, efforts)
        else:
            same = float(efforts[0])
            at = self.calibration.threshold_for(effort=same) if same >= 0 else None
            found = self._driver.detect_fitted(*inputs, at)
        own = np.where(efforts >= 0, efforts, self._own_effort)
        return {**found, "effort": own.astype(np.float32)}

    def _count(self, found: Mapping[str, np.ndarray], ms: float) -> None:
        count = len(found["count"])
        self._metrics.observe("batch_images", count, model=self.name)
        self._metrics.observe("batch_seconds", ms / 1e3, model=self.name)
        for effort in found.get("effort", ()):
            self._metrics.observe("effort", float(effort), model=self.name)
        if self.controller:
            self.controller.observe(count, self._share(found), ms)

    def _share(self, found: Mapping[str, np.ndarray]) -> float:
        """The part of what can be skipped that a batch computed."""
        least, most = self.calibration.macs[0], self.calibration.macs[-1]
        return float(np.clip((found["macs"].mean() - least) / (most - least), 0.0, 1.0))

    def _measure(self, samples: Sequence[Prepared]) -> tuple[BatchTimes, dict[str, np.ndarray]]:
        """Times of the smallest and the largest batch with the least effort and with all."""
        full = [samples[i % len(samples)] for i in range(self.batch_size)]
        outputs: dict[str, np.ndarray] = {}

        def milliseconds(items: Sequence[Prepared], effort: float) -> float:
            efforts = np.full(len(items), effort) if self.calibration else None
            seen = []
            for _ in range(1 + _REPEATS):
                start = time.perf_counter()
                outputs.update(self._detect(items, efforts))
                seen.append(1e3 * (time.perf_counter() - start))
            return float(np.median(seen[1:]))

        corners = [
            (milliseconds(full[:1], effort), milliseconds(full, effort))
            for effort in ((0.0, 1.0) if self.calibration else (0.0,))
        ]
        return BatchTimes(self.batch_size, corners[0], corners[-1]), outputs


def _floor(item: Prepared | None) -> float:
    """The least effort that an image takes, as far as it is known."""
    if item is None:
        return 0.0
    return item.min_effort if item.effort is None else item.effort


def _no_row(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of an image in which nothing was looked for: zeros, and -1 for labels."""
    empty = {name: np.zeros_like(values[0]) for name, values in outputs.items()}
    empty["labels"][...] = -1
    return empty


def describe_metrics(metrics: Metrics) -> None:
    """Declares what servers count."""
    metrics.describe("requests_total", "counter", "Requests that were answered, by status.")
    metrics.describe("images_total", "counter", "Images, by what became of them.")
    metrics.describe("request_seconds", "histogram", "From a request to its answer.", SECONDS)
    metrics.describe("batch_images", "histogram", "Images of a batch.", IMAGES)
    metrics.describe("batch_seconds", "histogram", "Time of a batch in the network.", SECONDS)
    metrics.describe("effort", "histogram", "Effort of an image.", EFFORTS)
    metrics.describe("queue_images", "gauge", "Images that were accepted and have no result.")
    metrics.describe("batch_time_factor", "gauge", "Time of batches, relative to the start's.")
