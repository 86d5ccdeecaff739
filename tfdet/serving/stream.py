"""Detections in many images and in videos: what comes next is read while the network runs."""

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np

from tfdet.data import decode
from tfdet.detectors.base import Detector
from tfdet.serving import batches, inputs, reading, video
from tfdet.serving import driver as drivers
from tfdet.serving.driver import Driver, ModelDriver

MOST_BYTES = 1 << 30  # of images that are read, detected in or drawn at a time
_MOST_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found in an image, or in a frame of a video.

    Attributes:
        file: of the image or the video, or a camera.
        image: uint8 [H, W, 3], RGB, upright; None where it could not be read.
        detections: `boxes` [1, N, 4] and the others, as `Driver.detect` returns them for one image;
            None where it could not be read.
        frame: its number in a video, from 0; None of images.
        seconds: when the frame is shown; None of images.
        error: why it could not be read.
        held: bytes that it takes, for `Stream.release`.
    """

    file: str
    image: np.ndarray | None = None
    detections: dict[str, np.ndarray] | None = None
    frame: int | None = None
    seconds: float | None = None
    error: decode.ImageError | OSError | None = None
    held: int = 0


# Closed, it lets go of its threads.
FoundStream = Generator[Found, None, None]


@dataclasses.dataclass
class Timing:
    """How fast a stream is, without its first batch, which builds the graph.

    Attributes:
        images: that were detected in.
        network_seconds: that their batches took.
        started: when the first batch was done, by `time.perf_counter`; None before.
    """

    images: int = 0
    network_seconds: float = 0.0
    started: float | None = None

    def add(self, images: int, seconds: float) -> None:
        if self.started is None:
            self.started = time.perf_counter()
            return
        self.images += images
        self.network_seconds += seconds


def detect(
    model: Driver | Detector,
    source: str,
    batch_size: int | None = None,
    *,
    effort: float | None = None,
    threshold: float | None = None,
    max_frames: int | None = None,
) -> Iterator[Found]:
    """Detects in files, a folder, a pattern, a video or a camera; yields each image as it comes.

    Example:
        driver = open_exported("served/onnx")
        for found in detect(driver, "photos", batch_size=8):
            print(found.file, found.detections["scores"])

    Args:
        model: an export or a detector.
        source: see `inputs.find` and `video.VideoReader`.
        batch_size: images per step; by default the size of the canvas chooses, and 1 of cameras.
        effort, threshold: of a dynamic detector, in the place of its own.
        max_frames: of each video.

    Yields:
        Images in the order of their names, then frames. Those that cannot be read have an `error`.
    """
    driver = ModelDriver(model) if isinstance(model, Detector) else model
    if effort is not None:
        threshold = drivers.threshold_for(driver, effort=effort)
    looked_at = inputs.find(source)
    stream = Stream(driver, batch_size, threshold)
    if looked_at.images:
        yield from stream.released(stream.images(looked_at.images))
    for place in looked_at.videos:
        with video.VideoReader(place) as reader:
            yield from stream.released(stream.frames(reader, max_frames))


@dataclasses.dataclass(frozen=True)
class _Photo:
    """An image on its way: what is detected in, or why there is nothing; the memory it holds."""

    file: str
    fitted: batches.Fitted | None = None
    error: decode.ImageError | OSError | None = None
    frame: int | None = None
    seconds: float | None = None
    held: int = 0


class Stream:
    """Detects in images and frames, several at once.

    Whoever is done with a result calls `release`: not more than a gigabyte of images is held.

    Args:
        driver: what detects.
        batch_size: images per step; by default the size of the canvas chooses.
        threshold: of a dynamic detector, in the place of its own.

    Attributes:
        timing: how fast it was so far.
    """

    def __init__(
        self, driver: Driver, batch_size: int | None = None, threshold: float | None = None
    ):
        self._given_size = batch_size
        size = batch_size or batches.default_batch_size(driver.image_size)
        self._detector = batches.BatchDetector(driver, size, threshold)
        self._budget = reading.Budget(MOST_BYTES)
        self.timing = Timing()

    @property
    def batch_size(self) -> int:
        """Images per step, which becomes less where the memory does not suffice."""
        return self._detector.batch_size

    def images(self, files: Iterable[str]) -> FoundStream:
        """What is found in image files, in their order; those with an error may come earlier."""
        return self._found(self._read_file, files, num_threads(), self.batch_size)

    def frames(self, reader: video.VideoReader, most: int | None = None) -> FoundStream:
        """What is found in the first `most` frames of a video, in their order."""
        frames = itertools.islice(reader, most)

        def read(number: int, room: reading.Room) -> _Photo | None:
            frame = next(frames, None)
            if frame is None:
                return None
            held = self._detector.fitted_bytes(frame.image.shape[:2])
            room(held)
            fitted = self._detector.fit(frame.image)
            return _Photo(reader.source, fitted, None, frame.number, frame.seconds, held)

        # A frame of a camera does not wait for others, unless that is wanted.
        is_live = video.is_camera(reader.source) and self._given_size is None
        return self._found(read, itertools.count(), 1, 1 if is_live else self.batch_size)

    def release(self, found: Found) -> None:
        """Gives back the memory of a result that is not used any more."""
        self._budget.give(found.held)

    def released(self, results: FoundStream) -> FoundStream:
        """The results, each of which is released when the next one is asked for."""
        with contextlib.closing(results):
            for found in results:
                yield found
                self.release(found)

    def _found(
        self,
        read: Callable[[Any, reading.Room], Any],
        items: Iterable[Any],
        threads: int,
        size: int,
    ) -> FoundStream:
        self._budget = reading.Budget(MOST_BYTES)
        photos = reading.read_ahead(read, items, threads, 2 * size, self._budget)
        with contextlib.closing(photos):
            # Of a video None stands for its end.
            for batch in _batches(itertools.takewhile(lambda x: x is not None, photos), size):
                yield from self._detect(batch)

    def _read_file(self, file: str, room: reading.Room) -> _Photo:
        held = 0
        try:
            with open(file, "rb") as stream:
                encoded = stream.read()
            held = self._detector.fitted_bytes(decode.header(encoded)[0])
            room(held)
            return _Photo(file, self._detector.fit(decode.decode_image(encoded)), held=held)
        except (decode.ImageError, OSError) as error:
            return _Photo(file, error=error, held=held)

    def _detect(self, photos: list[_Photo]) -> Iterator[Found]:
        if photos[0].error:
            yield Found(photos[0].file, error=photos[0].error, held=photos[0].held)
            return
        start = time.perf_counter()
        all_found = self._detector.detect([x.fitted for x in photos if x.fitted])
        self.timing.add(len(photos), time.perf_counter() - start)
        for one, found in zip(photos, all_found, strict=True):
            assert one.fitted is not None
            yield Found(one.file, one.fitted.image, found, one.frame, one.seconds, None, one.held)


def num_threads() -> int:
    """How many threads read or write images."""
    return max(2, min(os.cpu_count() or 1, _MOST_THREADS))


def _batches(photos: Iterable[_Photo], size: int) -> Iterator[list[_Photo]]:
    """Photos that can be read, `size` of them together; the first alone, which is soon done.

    Fewer where they are so large that they would fill the memory. One with an error comes alone.
    """
    batch: list[_Photo] = []
    wanted = 1
    for photo in photos:
        if photo.error:
            yield [photo]
            continue
        batch.append(photo)
        if len(batch) == wanted or sum(one.held for one in batch) > MOST_BYTES // 4:
            yield batch
            batch, wanted = [], size
    if batch:
        yield batch
