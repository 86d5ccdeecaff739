"""Frames of video files and cameras, and videos that are written, by PyAV (the extra [video])."""

import contextlib
import dataclasses
import fractions
import os
import pathlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from tfdet.errors import UserError, first_line

ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
CAMERA = "camera:"
_STREAMS = ("rtsp://", "rtsps://")
# What a number after `camera:` stands for: FFmpeg's input device, and its name for camera N.
_DEVICES = {
    "linux": ("video4linux2,v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
    "win32": ("dshow", "video={}"),
}
# Times in videos that are written: frames of 1000 a second can be told apart, and all containers
# and codecs take it (MPEG-4's have at most 65535 parts).
_TICKS = 1000
_USUAL_RATE = 25
_SECONDS = 30


def is_video(name: str) -> bool:
    """Whether a file is a video by its name."""
    return name.lower().endswith(ENDINGS)


def is_camera(source: str) -> bool:
    """Whether a source is a camera: `camera:0`, `camera:FORMAT:DEVICE`, or an rtsp address."""
    return source.startswith((CAMERA, *_STREAMS))


def is_installed() -> bool:
    """Whether videos can be read and written."""
    with contextlib.suppress(ImportError):
        import av  # noqa: F401

        return True
    return False


def check_installed() -> None:
    """Refuses, ahead of the work, to read videos without PyAV."""
    _library()


def _library() -> ModuleType:
    try:
        import av
    except ImportError:
        raise UserError("videos and cameras need PyAV; type `pip install 'tfdet[video]'`") from None
    return av


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture of a video.

    Attributes:
        number: from 0.
        seconds: when it is shown, from the beginning of the video.
        image: uint8 [H, W, 3], RGB, upright.
    """

    number: int
    seconds: float
    image: np.ndarray


class VideoReader:
    """The frames of a video file or a camera, in order; iterate once.

    Example:
        with VideoReader("street.mp4") as video:
            for frame in video:
                print(frame.number, frame.image.shape)

    Args:
        source: a file, `camera:0`, `camera:FORMAT:DEVICE` with one of FFmpeg's input devices, or
            an address that begins with rtsp://.

    Attributes:
        rate: frames in a second.
        num_frames: by the header; None where it does not have it.
        num_damaged: pieces that could not be decoded, and were left out, so far.
    """

    def __init__(self, source: str):
        self._av = _library()
        self.source = source
        self.num_damaged = 0
        name, device = _place(source)
        # Of an address that nobody answers at, and of a camera in the network that fell silent.
        timeout = _SECONDS if source.startswith(_STREAMS) else None
        try:
            self._container: Any = self._av.open(name, format=device, timeout=timeout)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"{source} cannot be opened as a video ({_reason(error)})") from None
        if not self._container.streams.video:
            self._container.close()
            raise UserError(f"{source} has no pictures, only sound or text")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate or _USUAL_RATE
        self.rate = float(rate) if 0 < rate <= _TICKS else float(_USUAL_RATE)
        self.num_frames: int | None = self._stream.frames or None

    def __iter__(self) -> Iterator[Frame]:
        first, last, number = None, -1.0, 0
        for frame in self._frames():
            image = np.ascontiguousarray(
                np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
            )
            at = frame.time if frame.time is not None else (first or 0.0) + number / self.rate
            first = at if first is None else first
            # Damaged clocks go back; frames are shown in the order in which they come.
            last = max(at - first, last + 1 / _TICKS) if number else 0.0
            yield Frame(number, last, image)
            number += 1
        if not number:
            raise UserError(f"{self.source} has no frame that can be decoded")

    def _frames(self) -> Iterator[Any]:
        """What the decoder gives; pieces that it refuses are counted and left out."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError:  # the file is cut, or the camera is gone
                self.num_damaged += 1
                return
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                self.num_damaged += 1
                continue
            yield from frames

    def close(self) -> None:
        """Lets go of the file or the camera."""
        self._container.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _place(source: str) -> tuple[str, str | None]:
    """What FFmpeg opens, and the input device that it needs; None of files."""
    if not source.startswith(CAMERA):
        # A file, also where its name reads like an address.
        return (source, None) if source.startswith(_STREAMS) else (f"file:{source}", None)
    device, _, name = source.removeprefix(CAMERA).partition(":")
    if name:
        return name, device
    if not device.isdecimal():
        raise UserError(f"{source}: write camera:0 for the first camera, or camera:FORMAT:DEVICE")
    form, pattern = _DEVICES.get(sys.platform, _DEVICES["linux"])
    place = pattern.format(device)
    if place.startswith("/dev/") and not os.path.exists(place):
        raise UserError(f"{source}: there is no camera {place}")
    return place, form


def _quarter_turns(frame: Any) -> int:
    """How often a frame is turned to the left to stand upright; phones film sideways."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


class VideoWriter:
    """Writes an MP4 (H.264, where FFmpeg has it), whose frames have times.

    Example:
        with files.replacing("found.mp4") as path:
            video = VideoWriter(path, rate=25, writer="tfdet")
            video.add(picture, seconds=0.04)
            video.close()

    Args:
        path: of the file.
        rate: frames in a second, about.
        writer: stands in the file.
    """

    def __init__(self, path: str | pathlib.Path, rate: float, writer: str):
        self._av = _library()
        self._path = pathlib.Path(path)
        self._container: Any = self._av.open(str(path), "w", format="mp4")
        self._container.metadata["comment"] = writer
        self._rate = rate
        self._stream: Any = None
        self._last = -1

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Appends a picture, uint8 [H, W, 3], shown at `seconds`; all have the size of the first.

        A side of an odd number of pixels is one longer in the file, since colours are stored for
        two by two.
        """
        down, right = (side % 2 for side in picture.shape[:2])
        if down or right:
            picture = np.pad(picture, ((0, down), (0, right), (0, 0)), "edge")
        if self._stream is None:
            self._stream = self._open(*picture.shape[:2])
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if (frame.width, frame.height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(width=self._stream.width, height=self._stream.height)
        self._last = max(round(seconds * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, fractions.Fraction(1, _TICKS)
        with self._as_user_error():
            self._write(frame)

    def close(self) -> None:
        """Writes what is still in the encoder; without a frame there is no video in the file."""
        with self._as_user_error():
            try:
                if self._stream is not None:
                    self._write(None)
            finally:
                self._container.close()

    @contextlib.contextmanager
    def _as_user_error(self) -> Iterator[None]:
        """As of a full disk: FFmpeg's errors are none of Python's own."""
        try:
            yield
        except self._av.FFmpegError as error:
            where = self._path.parent
            raise UserError(f"{where} takes no video ({_reason(error)})") from None

    def _open(self, height: int, width: int) -> Any:
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        rate = fractions.Fraction(self._rate).limit_denominator(_TICKS)
        stream = self._container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, _TICKS)
        return stream

    def _write(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
