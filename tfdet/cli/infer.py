"""`tfdet-infer`: detections of image files as pictures and JSON."""

import contextlib
import dataclasses
import glob
import os
import signal
import sys
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet import behind, progress
from tfdet.cli import app, flags, infer_folder
from tfdet.data.image_names import ENDINGS, is_image, is_other_picture
from tfdet.errors import Interrupted, UserError
from tfdet.printable import printable

if TYPE_CHECKING:
    from tfdet.data.decode import ImageError
    from tfdet.serving import batches, reading
    from tfdet.serving.driver import Driver

# An entry of detections.json, and the memory that its image held.
_Written = tuple[dict[str, Any], int]

_MOST_BYTES = 1 << 30  # of images that are read, detected in or drawn at a time
_MOST_THREADS = 8
# To be named where they lie among images.
_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

COMMAND = app.Command(
    name="tfdet-infer",
    purpose="Detects objects in image files; writes pictures and one detections.json.",
    example="""
        tfdet-infer --model_dir=runs/shapes --input='photos/*.jpg' --output_dir=found
        tfdet-infer --saved_model=runs/shapes/saved_model --input=photos --output_dir=found
        tfdet-infer --model_dir=runs/dynamic --input=photos --output_dir=found --effort=0.3
        tfdet-infer --model_dir=runs/caddet --input=photos --output_dir=found --draw_routes
    """,
    required=("input", "output_dir"),
)
flags.define_model(COMMAND.flags)
absl_flags.DEFINE_string(
    "saved_model",
    None,
    "Folder that tfdet-export wrote, in any format.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "input",
    None,
    "Images: a file, a folder, or a pattern in quotes (** for all folders below).",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "output_dir", None, "Folder for the pictures and detections.json.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_float(
    "min_score", 0.3, "Detections below this score are left out.", flag_values=COMMAND.flags
)
flags.define_batch_size(COMMAND.flags)
absl_flags.DEFINE_boolean(
    "draw_routes",
    False,
    "Draw the route that each image took through a CADDet's grid beside its detections.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_boolean(
    "overwrite",
    False,
    "Replace what an earlier tfdet-infer wrote to --output_dir.",
    flag_values=COMMAND.flags,
)
flags.define_effort(COMMAND.flags)


def main(options: types.SimpleNamespace) -> int:
    """Detects in every image; 1 where some could not be read."""
    given = flags.check_model(options, "saved_model")
    flags.check_effort(options)
    flags.check_positive(options, "batch_size")
    if not 0 <= options.min_score <= 1:
        raise app.UsageError(f"--min_score must be between 0 and 1, got {options.min_score}")
    files = _find(options.input)
    pictures = infer_folder.picture_names(files)
    folder = infer_folder.Folder(options.output_dir, files, pictures.values(), options.overwrite)
    from tfdet.serving import driver as drivers
    from tfdet.serving import exported

    if given == "saved_model":
        driver = exported.open_exported(options.saved_model)
    else:
        driver = drivers.ModelDriver(flags.load_model(options))
    threshold = flags.chosen_threshold(options, driver)
    if options.draw_routes and driver.route_map is None:
        raise UserError("--draw_routes: this detector has no routes; they are what a CADDet has")
    folder.start()
    run = _Run(options, driver, threshold, folder)
    try:
        run.look_at(pictures)
    except (KeyboardInterrupt, OSError, UserError) as error:
        folder.save_what_fits()
        raise _with_what_is_kept(error, folder, len(files)) from None
    folder.save()
    return run.report()


def _with_what_is_kept(
    error: KeyboardInterrupt | OSError | UserError, folder: infer_folder.Folder, total: int
) -> Exception | KeyboardInterrupt:
    """The error that also says how far the work came."""
    where = folder.path / infer_folder.DETECTIONS
    kept = f"{where} has {len(folder.results)} of {total} images; --overwrite begins again"
    if isinstance(error, Interrupted):
        return Interrupted(f"{error}: {kept}", error.number)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"stopped by Ctrl-C: {kept}", signal.SIGINT)
    if isinstance(error, UserError):
        return UserError(f"{error}; {kept}")
    return UserError(f"{error.strerror}: {error.filename or folder.path}; {kept}")


def _find(pattern: str) -> list[str]:
    if os.path.isfile(pattern):  # also where its name reads like a pattern
        return [pattern]
    if os.path.isdir(pattern):
        return _images_of(pattern)
    files = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not files:
        raise UserError(
            f"no file matches --input={pattern}; give a file, a folder, or a pattern in quotes "
            "(web addresses, cameras and lists of files are not read)"
        )
    return files


def _images_of(folder: str) -> list[str]:
    names = [name for name in sorted(os.listdir(folder)) if _is_file(folder, name)]
    others = [x for x in names if is_other_picture(x) or x.lower().endswith(_VIDEOS)]
    images = [name for name in names if is_image(name)]
    if not images:
        raise UserError(
            f"folder {folder} holds no image ({', '.join(ENDINGS)}); for the folders below it "
            f"give a pattern in quotes, --input='{os.path.join(folder, '**', '*.jpg')}'"
        )
    if others:
        kinds = ", ".join(sorted({os.path.splitext(name)[1].lower() for name in others}))
        print(
            f"{COMMAND.name}: {len(others)} files of {folder} are of kinds that are not read "
            f"({kinds}); convert them to JPEG or PNG",
            file=sys.stderr,
        )
    return [os.path.join(folder, name) for name in images]


def _is_file(folder: str, name: str) -> bool:
    return os.path.isfile(os.path.join(folder, name))


@dataclasses.dataclass(frozen=True)
class _Photo:
    """A file on its way: what is detected in, or why there is nothing; and the memory it holds."""

    file: str
    fitted: "batches.Fitted | None" = None
    error: "ImageError | OSError | None" = None
    held: int = 0


class _Run:
    """Looks at images in batches: a picture and an entry of each, and what is to be said of all.

    Images are read in threads ahead of the network, and pictures written in threads behind it.
    """

    def __init__(
        self,
        options: types.SimpleNamespace,
        driver: "Driver",
        threshold: float | None,
        folder: infer_folder.Folder,
    ):
        from tfdet.serving import batches, reading

        self._options = options
        self._driver = driver
        self._folder = folder
        size = options.batch_size or batches.default_batch_size(driver.image_size)
        self._detector = batches.BatchDetector(driver, size, threshold)
        self._budget = reading.Budget(_MOST_BYTES)
        self._left_out: list[str] = []
        self._best = (-1.0, "", "")  # score, class and file of the surest detection of all

    def look_at(self, pictures: dict[str, str]) -> None:
        """Detects in images, file -> name of its picture."""
        from tfdet.serving import reading

        size = self._detector.batch_size
        threads = max(2, min(os.cpu_count() or 1, _MOST_THREADS))
        photos = reading.read_ahead(self._read, pictures, threads, 2 * size, self._budget)
        # Figures of routes are Matplotlib's, which is not made for threads.
        writers = 1 if self._options.draw_routes else threads
        self._progressed = _Progress(len(pictures))
        with (
            contextlib.closing(photos),
            behind.Behind(writers, max(size, writers), self._take) as writing,
        ):
            try:
                for number, batch in enumerate(self._batches(photos, size)):
                    for photo, found in self._detect(batch):
                        writing.put(self._write, photo, found, pictures[photo.file])
                    if not number:
                        writing.finish()  # so that the first is there ahead of the second batch
                writing.finish()
            except BaseException:
                # Not to the disk: that may be what is full.
                writing.stop(lambda written: self._folder.results.append(written[0]))
                raise

    def _read(self, file: str, room: "reading.Room") -> _Photo:
        from tfdet.data import decode

        held = 0
        try:
            encoded = _content(file)
            held = self._detector.fitted_bytes(decode.header(encoded)[0])
            room(held)
            return _Photo(file, self._detector.fit(decode.decode_image(encoded)), held=held)
        except (decode.ImageError, OSError) as error:
            return _Photo(file, error=error, held=held)

    def _batches(self, photos: Iterable[_Photo], size: int) -> Iterator[list[_Photo]]:
        """Photos that can be read, `size` of them together; the first alone, which is soon done.

        Fewer where they are so large that they would fill the memory.
        """
        batch: list[_Photo] = []
        wanted = 1
        for photo in photos:
            if photo.error:
                self._left_out.append(f"{photo.file}: {_what_is_wrong(photo.file, photo.error)}")
                self._budget.give(photo.held)
                self._progressed.add_one()
                continue
            batch.append(photo)
            if len(batch) == wanted or sum(one.held for one in batch) > _MOST_BYTES // 4:
                yield batch
                batch, wanted = [], size
        if batch:
            yield batch

    def _detect(self, photos: list[_Photo]) -> Iterator[tuple[_Photo, dict[str, Any]]]:
        fitted = [photo.fitted for photo in photos if photo.fitted]
        for photo, found in zip(photos, self._detector.detect(fitted), strict=True):
            self._note_best(found, photo.file)
            yield photo, found

    def _write(self, photo: _Photo, found: dict[str, Any], picture: str) -> _Written:
        path = os.path.join(self._options.output_dir, picture)
        image = photo.fitted.image
        return _result(self._driver, found, image, photo.file, path, self._options), photo.held

    def _take(self, written: _Written) -> None:
        entry, held = written
        self._folder.add(entry)
        self._budget.give(held)
        self._progressed.add_one()

    def _note_best(self, found: dict[str, Any], file: str) -> None:
        if found["count"][0]:
            score, label = float(found["scores"][0, 0]), int(found["labels"][0, 0])
            self._best = max(self._best, (score, self._driver.class_names[label], file))

    def report(self) -> int:
        """Prints what was found; the exit code."""
        results, least = self._folder.results, self._options.min_score
        total = sum(len(result["detections"]) for result in results)
        print(
            f"{total} detections in {len(results)} images with a score of {least:g} or more; "
            f"pictures and {infer_folder.DETECTIONS} are in {self._options.output_dir}"
        )
        if results and not total:
            print(self._best_line())
        if results and "macs" in results[0]:
            print(_cost_line(results))
        for line in self._left_out:
            print(f"{COMMAND.name}: left out {printable(line)}", file=sys.stderr)
        return 1 if self._left_out else 0

    def _best_line(self) -> str:
        score, name, file = self._best
        if score < 0:
            return "the model gave no box of any score; is it trained?"
        shown = f"the best score found is {score:.3g} ({printable(name)} in {printable(file)})"
        return f"{shown}; --min_score={score:.1g} or less shows it" if score >= 1e-3 else shown


class _Progress:
    """Counts images that are done, in whatever order, and shows how many of all."""

    def __init__(self, total: int):
        self._counter, self._done, self._total = progress.ImageCounter(), 0, total

    def add_one(self) -> None:
        self._done += 1
        self._counter(self._done, self._total)


def _content(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()


def _what_is_wrong(file: str, error: "ImageError | OSError") -> str:
    if isinstance(error, OSError):
        return error.strerror
    if file.lower().endswith(_VIDEOS):
        return "a video; take pictures out of it first, for example with ffmpeg"
    reason = f" ({error})" if error.kind in ("unreadable_image", "palette_image") else ""
    return f"{error.kind.replace('_', ' ')}{reason}"


def _cost_line(results: list[dict[str, Any]]) -> str:
    hard, macs = (
        sum(result.get(name, 0) for result in results) / len(results)
        for name in ("is_hard", "macs")
    )
    share = f"{100 * hard:.0f} % of the images were hard; " if "is_hard" in results[0] else ""
    return f"{share}{macs / 1e9:.4g} GMAC per image"


def _result(
    driver: "Driver",
    detected: dict,
    image: Any,
    file: str,
    picture: str,
    options: types.SimpleNamespace,
) -> dict[str, Any]:
    """One image's entry of detections.json; its picture is written."""
    from tfdet.detectors.dynamic import reported
    from tfdet.visualization import draw, route_figures

    found = {name: values[0] for name, values in detected.items()}
    keep = found["scores"][: found["count"]] >= options.min_score
    boxes, scores, labels = (
        found[name][: found["count"]][keep] for name in ("boxes", "scores", "labels")
    )
    runs = [{}] * len(boxes)
    shown, zoom = draw.enlarged(image)
    if "masks" in found:
        masks = found["masks"][: found["count"]][keep]
        shown = draw.draw_masks(shown, zoom * boxes, labels, masks)
        runs = [_run_lengths(mask, box, image) for mask, box in zip(masks, boxes, strict=True)]
    drawn = draw.draw_boxes(shown, zoom * boxes, labels, driver.class_names, scores)
    if options.draw_routes:
        drawn = route_figures.route_beside(drawn, driver.route_map, found["gates"], found["macs"])
    draw.save_picture(picture, drawn, infer_folder.WRITER)
    return {
        "file": file,
        "picture": os.path.basename(picture),
        "size": list(image.shape[:2]),
        **{name: value.item() for name, value in reported(found).items() if value.ndim == 0},
        "detections": [
            {
                "class": driver.class_names[label],
                "category_id": driver.class_ids[label],
                "score": round(float(score), 5),
                "box_xyxy": [round(float(x), 2) for x in box],
                **segmentation,
            }
            for box, score, label, segmentation in zip(boxes, scores, labels, runs, strict=True)
        ],
    }


def _run_lengths(mask: Any, box: Any, image: Any) -> dict[str, Any]:
    """An object's pixels in COCO's compressed form."""
    import numpy as np
    from pycocotools import mask as coco_masks

    from tfdet.ops.masks import paste

    runs = coco_masks.encode(np.asfortranarray(paste(mask, box, image.shape[:2]), np.uint8))
    return {"segmentation": {"size": runs["size"], "counts": runs["counts"].decode("ascii")}}


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
