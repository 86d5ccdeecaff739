"""A video or a camera of `tfdet-infer`: drawn frames as a video, and a line of JSON for each."""

import contextlib
import json
import sys
import types
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from tfdet import behind, files, progress
from tfdet.cli import infer_folder, infer_shown
from tfdet.errors import Interrupted, UserError
from tfdet.printable import counted

if TYPE_CHECKING:
    from tfdet.serving.driver import Driver
    from tfdet.serving.stream import Found, Stream
    from tfdet.serving.video import VideoReader, VideoWriter

_Line = tuple[dict[str, Any], "Found"]


class NotRead(UserError):
    """A video that cannot be read; the others are."""


class Look:
    """Detects in a video.

    Args:
        source: the file or the camera.
        names: of what is written.
        stream, driver, options: of the command.

    Attributes:
        best: score and class of the surest detection.
        notes: sentences about what was left out.
    """

    def __init__(
        self,
        source: str,
        names: infer_folder.VideoNames,
        stream: "Stream",
        driver: "Driver",
        options: types.SimpleNamespace,
    ):
        self.best = (-1.0, "")
        self.notes: list[str] = []
        self._source, self._names = source, names
        self._stream, self._driver, self._options = stream, driver, options
        self._entry: dict[str, Any] = {
            "file": source,
            "video": names.video,
            "frames": names.frames,
            **({"labels": names.labels} if options.save_txt else {}),
            "num_frames": 0,
            "num_detections": 0,
        }
        self._sums: dict[str, float] = {}

    def at_all(self, folder: infer_folder.Folder) -> None:
        """Writes the video and its lines, and adds its entry to `folder`.

        Raises:
            NotRead: nothing of it could be read; nothing is written.
        """
        from tfdet.serving import video

        with contextlib.ExitStack() as stack:
            try:
                reader = stack.enter_context(video.VideoReader(self._source))
            except UserError as error:
                raise NotRead(str(error)) from None
            self._entry["frames_per_second"] = round(reader.rate, 3)
            # From now on, so that whoever clears the folder after a kill knows these files.
            folder.add(self._entry)
            folder.save()
            try:
                self._write_all(reader, folder.path)
            finally:
                self._finish_entry(folder)
            if reader.num_damaged:
                self.notes.append(f"{reader.num_damaged} damaged pieces of {self._source}")

    def _write_all(self, reader: "VideoReader", folder: Any) -> None:
        with open(folder / self._names.frames, "w", encoding="utf-8") as lines:
            self._lines: IO[str] = lines
            with _video(folder / self._names.video, reader.rate) as self._video:
                self._look(reader)

    def _look(self, reader: "VideoReader") -> None:
        from tfdet.serving import video

        self._progressed = _Progress(reader.num_frames, self._options.max_frames)
        results = self._stream.frames(reader, self._options.max_frames)
        with (
            contextlib.closing(results),
            # One thread: frames are written in their order.
            behind.Behind(1, self._stream.batch_size, self._take) as writing,
        ):
            try:
                for found in results:
                    best = infer_shown.best_of(self._driver, found)
                    self.best = max(self.best, best)
                    writing.put(self._write, found)
                writing.finish()
            except KeyboardInterrupt as error:
                writing.finish()  # of a video also the part that was seen is of use
                if isinstance(error, Interrupted) or not video.is_camera(self._source):
                    raise
            except UserError as error:
                writing.finish()
                if not self._entry["num_frames"]:
                    raise NotRead(str(error)) from None
                raise
        self._progressed.finish()

    def _write(self, found: "Found") -> _Line:
        facts, drawn = infer_shown.show(self._driver, found, self._options)
        assert found.frame is not None and found.seconds is not None
        self._video.add(drawn, found.seconds)
        line = {"frame": found.frame, "seconds": round(found.seconds, 3), **facts}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        return line, found

    def _take(self, written: _Line) -> None:
        line, found = written
        self._stream.release(found)
        self._entry["size"] = line["size"]
        self._entry["num_frames"] += 1
        self._entry["num_detections"] += len(line["detections"])
        for name in ("macs", "is_hard"):
            if name in line:
                self._sums[name] = self._sums.get(name, 0) + line[name]
        self._progressed.add_one()

    def _finish_entry(self, folder: infer_folder.Folder) -> None:
        count = self._entry["num_frames"]
        self._entry.update({name: total / count for name, total in self._sums.items()})
        if not count:
            folder.drop(self._entry)
        with contextlib.suppress(OSError, UserError):  # the command saves it too, and reports
            folder.save()


@contextlib.contextmanager
def _video(path: Any, rate: float) -> Iterator["VideoWriter"]:
    """A video that is there when the block ends, also by Ctrl-C; not after other errors."""
    from tfdet.serving import video

    interrupted: KeyboardInterrupt | None = None
    with files.replacing(path) as temporary:
        writer = video.VideoWriter(temporary, rate, infer_folder.WRITER)
        try:
            yield writer
        except KeyboardInterrupt as error:
            interrupted = error
        finally:
            writer.close()
    if interrupted:
        raise interrupted


class _Progress:
    """Shows how many frames are done: of all, where that is known."""

    def __init__(self, total: int | None, most: int | None):
        known = [x for x in (total, most) if x]
        # A header may be wrong, and a camera has no end.
        self._total = min(known) if total else 0
        self._counter = progress.ImageCounter() if self._total else None
        self._line = progress.Line(sys.stderr)
        self._done = 0

    def add_one(self) -> None:
        self._done += 1
        if self._counter:
            self._counter(self._done, max(self._total, self._done + 1))
        elif self._line.is_due():
            self._line.show(counted(self._done, "frame"))

    def finish(self) -> None:
        if self._counter:
            self._counter(self._done, self._done)
        elif self._line.is_terminal:
            self._line.finish(counted(self._done, "frame"))
