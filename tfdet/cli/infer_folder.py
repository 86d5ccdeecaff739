"""The folder that `tfdet-infer` writes: a picture of each image, and detections.json."""

import json
import os
import pathlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tfdet import files
from tfdet.cli import flags
from tfdet.errors import UserError

DETECTIONS = "detections.json"
WRITER = "tfdet-infer"  # stands in every picture
# detections.json is written anew as images are done, which may take 5 % of the time.
_TIME_FRACTION, _LEAST_SECONDS = 0.05, 1.0


def picture_names(images: Sequence[str]) -> dict[str, str]:
    """A name for each picture, unlike all others: a.jpg and b/a.png must not meet.

    Names that differ in capitals alone are one file to some systems.
    """
    taken, names = set(), {}
    for image in images:
        stem = os.path.splitext(os.path.basename(image))[0]
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}~{number}"
        taken.add(name.casefold())
        names[image] = f"{name}.jpg"
    return names


class Folder:
    """Where detections go; made, or proved fit for them, before any work is done.

    Args:
        path: of the folder.
        images: that are looked at, none of which may be replaced.
        pictures: the names that are going to be written.
        overwrite: whether what an earlier inference wrote may be cleared.

    Raises:
        UserError: where a file would be replaced that no inference wrote, or an earlier inference's
            files without `overwrite`.
    """

    def __init__(
        self, path: str, images: Iterable[str], pictures: Iterable[str], overwrite: bool = False
    ):
        self.path = pathlib.Path(path)
        self.results: list[dict[str, Any]] = []
        self.num_saved = 0
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--output_dir={path} is a file; give a folder")
        self._earlier = self._written_earlier()
        if self._earlier and not overwrite:
            raise UserError(
                f"--output_dir={path} holds the detections of an earlier tfdet-infer; give another "
                "folder, or --overwrite to replace them"
            )
        self._pictures = set(pictures)
        self._check_names(images, [*sorted(self._pictures), DETECTIONS])
        flags.check_writable(self.path, "output_dir")
        self._saved, self._seconds = 0.0, 0.0

    def _written_earlier(self) -> list[str]:
        """Names of what an earlier inference wrote here, also one that was killed."""
        path = self.path / DETECTIONS
        if not path.is_file():
            return []
        from tfdet.visualization import draw

        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            names = [os.path.basename(entry["picture"]) for entry in entries]
        except (ValueError, TypeError, KeyError, RecursionError):
            return []  # somebody else's file of this name
        listed = {name for name in names if name.endswith(".jpg")}
        signed = {x.name for x in self.path.glob("*.jpg") if draw.writer_of(x) == WRITER}
        # detections.json last: whoever is killed while clearing finds the rest by it.
        return [*sorted(listed | signed), DETECTIONS]

    def _check_names(self, images: Iterable[str], names: Iterable[str]) -> None:
        looked_at = {os.path.realpath(image) for image in images}
        earlier = set(self._earlier)
        for name in names:
            place = self.path / name
            if os.path.realpath(place) in looked_at:
                raise UserError(
                    f"--output_dir={self.path} holds {name} of --input, which would be "
                    "overwritten; give another folder"
                )
            if name not in earlier and os.path.lexists(place):
                raise UserError(
                    f"--output_dir={self.path} holds {name}, which tfdet-infer did not write; "
                    "give another folder"
                )

    def start(self) -> None:
        """Makes the folder, clears what an earlier inference left and writes an empty list."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in self._earlier:
            (self.path / name).unlink(missing_ok=True)
        self.save()

    def add(self, result: dict[str, Any]) -> None:
        """Takes an image's entry; detections.json has it soon after."""
        self.results.append(result)
        pause = max(_LEAST_SECONDS, self._seconds / _TIME_FRACTION)
        if time.monotonic() - self._saved >= pause:
            self.save()

    def save(self) -> None:
        """Writes detections.json, all or nothing."""
        started = time.monotonic()
        lines = ",\n".join(json.dumps(result) for result in self.results)
        files.write_text(self.path / DETECTIONS, f"[\n{lines}\n]\n")
        self.num_saved = len(self.results)
        self._saved = time.monotonic()
        self._seconds = self._saved - started

    def save_what_fits(self) -> None:
        """As `save`, when the work ends early: every picture has its entry, and the other way.

        On a full disk the last pictures make room for what is said of the others.
        """
        self._drop_others()
        while len(self.results) > self.num_saved:
            try:
                self.save()
            except (OSError, files.NotWritten):
                self.results.pop()
                self._drop_others()

    def _drop_others(self) -> None:
        known = {result["picture"] for result in self.results}
        for name in self._pictures - known:
            (self.path / name).unlink(missing_ok=True)
