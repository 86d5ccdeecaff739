"""The folder that `tfdet-infer` writes: pictures, videos, detections.json and tables."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tfdet import files
from tfdet.cli import flags
from tfdet.errors import UserError

DETECTIONS = "detections.json"
WRITER = "tfdet-infer"  # stands in every picture
LABELS = "labels"  # the folder of YOLO's files
CSV, COCO = "detections.csv", "coco.json"
CSV_HEAD = "file,frame,class,category_id,score,left,top,right,bottom"
COCO_HEAD = f'{{"info": {{"description": "{WRITER}"'


def labels_name(picture: str) -> str:
    """Where the labels of the image with this picture go."""
    return f"{LABELS}/{os.path.splitext(picture)[0]}.txt"


def _begins(path: pathlib.Path, text: str) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(text)) == text.encode()


# Tables in one file, and whether one that is there was written by an inference.
TABLES: dict[str, Callable[[pathlib.Path], bool]] = {
    CSV: lambda path: _begins(path, CSV_HEAD),
    COCO: lambda path: _begins(path, COCO_HEAD),
}
# detections.json is written anew as images are done, which may take 5 % of the time.
_TIME_FRACTION, _LEAST_SECONDS = 0.05, 1.0


def picture_names(images: Sequence[str], ending: str = ".jpg") -> dict[str, str]:
    """A name for each picture, unlike all others: a.jpg and b/a.png must not meet.

    Names that differ in capitals alone are one file to some systems.
    """
    taken, names = set(), {}
    for image in images:
        stem = os.path.splitext(os.path.basename(image))[0] or "camera"
        stem = re.sub(r"[:?*\"<>|]", "_", stem)  # of cameras; some systems have no such files
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}~{number}"
        taken.add(name.casefold())
        names[image] = f"{name}{ending}"
    return names


@dataclasses.dataclass(frozen=True)
class VideoNames:
    """What is written of a video: its drawn frames, a line for each, and a folder of labels."""

    video: str
    frames: str
    labels: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The names of all that is going to be written.

    Attributes:
        pictures: by the image's file.
        videos: by the video's file, or the camera.
        tables: other files.
        has_labels: whether there are files in YOLO's form.
    """

    pictures: dict[str, str] = dataclasses.field(default_factory=dict)
    videos: dict[str, VideoNames] = dataclasses.field(default_factory=dict)
    tables: tuple[str, ...] = ()
    has_labels: bool = False

    @classmethod
    def of(
        cls,
        images: Sequence[str],
        videos: Sequence[str],
        tables: tuple[str, ...] = (),
        has_labels: bool = False,
    ) -> "Plan":
        """Names for what is made of images and videos, beside `tables`."""
        drawn = picture_names(videos, ".mp4")
        stems = {source: name.removesuffix(".mp4") for source, name in drawn.items()}
        return cls(
            picture_names(images),
            {
                source: VideoNames(f"{stem}.mp4", f"{stem}.jsonl", f"{LABELS}/{stem}")
                for source, stem in stems.items()
            },
            tables,
            has_labels,
        )

    @property
    def names(self) -> set[str]:
        """Of everything, relative to the folder."""
        names = {*self.pictures.values(), *self.tables, DETECTIONS}
        for video in self.videos.values():
            names |= {video.video, video.frames}
        if self.has_labels:
            names |= {labels_name(picture) for picture in self.pictures.values()}
            names |= {video.labels for video in self.videos.values()}
        return names


class Folder:
    """Where detections go; made, or proved fit for them, before any work is done.

    Args:
        path: of the folder.
        plan: what is looked at, none of which may be replaced, and what is going to be written.
        overwrite: whether what an earlier inference wrote may be cleared.

    Raises:
        UserError: where a file would be replaced that no inference wrote, or an earlier inference's
            files without `overwrite`.
    """

    def __init__(self, path: str | pathlib.Path, plan: Plan, overwrite: bool = False):
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
        self._pictures = set(plan.pictures.values())
        if plan.has_labels and (self.path / LABELS).is_symlink():
            raise UserError(f"{self.path / LABELS} is a link, which is not followed; remove it")
        self._check_names((*plan.pictures, *plan.videos), sorted(plan.names))
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
            listed = {name for entry in entries for name in _listed(entry)}
        except (ValueError, TypeError, KeyError, RecursionError):
            return []  # somebody else's file of this name
        signed = {x.name for x in self.path.glob("*.jpg") if draw.writer_of(x) == WRITER}
        tables = {name for name, is_ours in TABLES.items() if is_ours(self.path / name)}
        # detections.json last: whoever is killed while clearing finds the rest by it.
        return [*sorted(listed | signed | tables), DETECTIONS]

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
            self._remove(name)
        self.save()

    def add(self, result: dict[str, Any]) -> None:
        """Takes an image's entry; detections.json has it soon after."""
        self.results.append(result)
        pause = max(_LEAST_SECONDS, self._seconds / _TIME_FRACTION)
        if time.monotonic() - self._saved >= pause:
            self.save()

    def drop(self, result: dict[str, Any]) -> None:
        """Takes an entry back, and what it names."""
        self.results = [x for x in self.results if x is not result]
        for name in _listed(result):
            self._remove(name)

    def _remove(self, name: str) -> None:
        """Removes what `_listed` names; links are not followed."""
        path = self.path / name
        if not name.startswith(f"{LABELS}/"):
            path.unlink(missing_ok=True)
        elif (self.path / LABELS).is_dir() and not (self.path / LABELS).is_symlink():
            _remove_labels(path)

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
        known = {result.get("picture") for result in self.results}
        for name in self._pictures - known:
            (self.path / name).unlink(missing_ok=True)


def _listed(entry: Any) -> Iterator[str]:
    """The files that an entry of detections.json names, and its folder of labels."""
    endings = {"picture": ".jpg", "video": ".mp4", "frames": ".jsonl"}
    if not {"picture", "video"} & set(entry):
        raise KeyError("picture")
    for key, ending in endings.items():
        name = os.path.basename(entry.get(key, ""))
        if name.endswith(ending):
            yield name
    labels = entry.get("labels", "")
    name = os.path.basename(labels)
    if name not in ("", ".", "..") and labels == f"{LABELS}/{name}":
        yield labels


def _remove_labels(path: pathlib.Path) -> None:
    """Removes a file of labels, or a folder of numbered ones, and folders that are empty then."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        for file in path.glob("*.txt"):
            if file.stem.isdecimal():
                file.unlink()
    for folder in (path, path.parent):
        with contextlib.suppress(OSError):  # it holds something else, or is gone
            folder.rmdir()
