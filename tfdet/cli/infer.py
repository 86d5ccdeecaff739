"""`tfdet-infer`: detections in images, videos and cameras as pictures, JSON and tables."""

import contextlib
import os
import signal
import sys
import time
import types
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet import behind, devices, progress
from tfdet.cli import app, flags, infer_folder, infer_shown, infer_tables, infer_video
from tfdet.errors import Interrupted, UserError
from tfdet.printable import counted, printable

if TYPE_CHECKING:
    from tfdet.serving.driver import Driver
    from tfdet.serving.inputs import Inputs
    from tfdet.serving.stream import Found, Stream

# An entry of detections.json, and what it was made of.
_Written = tuple[dict[str, Any], "Found"]

COMMAND = app.Command(
    name="tfdet-infer",
    purpose="Detects objects in images, videos and cameras; writes pictures, videos and JSON.",
    example="""
        tfdet-infer --model_dir=runs/shapes --input='photos/*.jpg' --output_dir=found
        tfdet-infer --saved_model=served/onnx --input=photos --output_dir=found --save_csv
        tfdet-infer --model_dir=runs/dynamic --input=street.mp4 --output_dir=found --effort=0.3
        tfdet-infer --saved_model=served/cells/1 --input=camera:0 --output_dir=found
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
    "Images and videos: a file, a folder, or a pattern in quotes (** for all folders below); or a "
    "camera: camera:0, or rtsp://... Videos need the extra [video].",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "output_dir",
    None,
    "Folder for detections.json, a picture of each image, and of each video a drawn one and "
    "NAME.jsonl with a line per frame.",
    flag_values=COMMAND.flags,
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
    "save_txt",
    False,
    "Also write labels/NAME.txt in YOLO's form: label, centre and size of each box, as parts of "
    "the image's; of videos labels/NAME/FRAME.txt.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_boolean(
    "save_csv", False, "Also write detections.csv, a row per box.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_boolean(
    "save_coco",
    False,
    "Also write coco.json: images, categories and boxes with scores in COCO's form.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_integer(
    "max_frames",
    None,
    "Frames of each video or camera to look at; by default all. Ctrl-C ends a camera.",
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
    """Detects in every image and video; 1 where some could not be read."""
    given = flags.check_model(options, "saved_model")
    flags.check_effort(options)
    flags.check_positive(options, "batch_size", "max_frames")
    if not 0 <= options.min_score <= 1:
        raise app.UsageError(f"--min_score must be between 0 and 1, got {options.min_score}")
    from tfdet.serving import inputs, video

    found = inputs.find(options.input, "--input")
    if found.videos:
        video.check_installed()
    if "max_frames" in options.given and not found.videos:
        raise app.UsageError("--max_frames is for videos and cameras; there are none")
    tables = infer_tables.wanted(options)
    plan = infer_folder.Plan.of(found.images, found.videos, tables, options.save_txt)
    folder = infer_folder.Folder(options.output_dir, plan, options.overwrite)
    from tfdet.serving import driver as drivers
    from tfdet.serving import exported

    if given == "saved_model":
        driver = exported.open_exported(options.saved_model)
    else:
        driver = drivers.ModelDriver(flags.load_model(options))
    threshold = flags.chosen_threshold(options, driver)
    if options.draw_routes and driver.route_map is None:
        raise UserError("--draw_routes: this detector has no routes; they are what a CADDet has")
    if found.note:
        print(f"{COMMAND.name}: {found.note}", file=sys.stderr)
    videos = f" and {counted(len(found.videos), 'video')}" if found.videos else ""
    print(
        f"{counted(len(found.images), 'image')}{videos}; pictures and {infer_folder.DETECTIONS} go "
        f"to {options.output_dir}; running on {devices.in_use()}",
        flush=True,
    )
    folder.start()
    run = _Run(options, driver, threshold, folder)
    try:
        run.look_at(found, plan)
    except (KeyboardInterrupt, OSError, UserError) as error:
        folder.save_what_fits()
        with contextlib.suppress(OSError, UserError):  # the first error is what counts
            infer_tables.write(options, folder, driver)
        raise _with_what_is_kept(error, folder, len(found.images) + len(found.videos)) from None
    folder.save()
    infer_tables.write(options, folder, driver)
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


class _Run:
    """Looks at images, then at videos: a picture and an entry of each, and what to report of all.

    Images are read in threads ahead of the network, and pictures written in threads behind it.
    """

    def __init__(
        self,
        options: types.SimpleNamespace,
        driver: "Driver",
        threshold: float | None,
        folder: infer_folder.Folder,
    ):
        from tfdet.serving import stream

        self._options = options
        self._driver = driver
        self._folder = folder
        self._stream = stream.Stream(driver, options.batch_size, threshold)
        self._left_out: list[str] = []
        self._best = (-1.0, "", "")  # score, class and file of the surest detection of all

    def look_at(self, found: "Inputs", plan: infer_folder.Plan) -> None:
        """Detects in images and videos, whose outputs have the names of the plan."""
        if found.images:
            self._look_at_images(plan.pictures)
        for source, names in plan.videos.items():
            look = infer_video.Look(source, names, self._stream, self._driver, self._options)
            try:
                look.at_all(self._folder)
            except infer_video.NotRead as error:
                self._left_out.append(str(error))
                continue
            self._left_out += look.notes
            self._best = max(self._best, (*look.best, source))

    def _look_at_images(self, pictures: dict[str, str]) -> None:
        from tfdet.serving import stream

        # Figures of routes are Matplotlib's, which is not made for threads.
        writers = 1 if self._options.draw_routes else stream.num_threads()
        self._progressed = _Progress(len(pictures))
        most = max(self._stream.batch_size, writers)
        with (
            contextlib.closing(self._stream.images(pictures)) as results,
            behind.Behind(writers, most, self._take) as writing,
        ):
            try:
                is_first = True
                for found in results:
                    if found.error:
                        self._leave_out(found)
                        continue
                    self._best = max(
                        self._best, (*infer_shown.best_of(self._driver, found), found.file)
                    )
                    writing.put(self._write, found, pictures[found.file])
                    if is_first:
                        writing.finish()  # so that it is there ahead of the second batch
                        is_first = False
                writing.finish()
            except BaseException:
                # Not to the disk: that may be what is full.
                writing.stop(lambda written: self._folder.results.append(written[0]))
                raise

    def _leave_out(self, found: "Found") -> None:
        self._left_out.append(f"{found.file}: {_what_is_wrong(found.error)}")
        self._stream.release(found)
        self._progressed.add_one()

    def _write(self, found: "Found", picture: str) -> _Written:
        from tfdet.visualization import draw

        facts, drawn = infer_shown.show(self._driver, found, self._options)
        draw.save_picture(
            os.path.join(self._options.output_dir, picture), drawn, infer_folder.WRITER
        )
        labels = infer_tables.labels_of(picture) if self._options.save_txt else {}
        return {"file": found.file, "picture": picture, **labels, **facts}, found

    def _take(self, written: _Written) -> None:
        entry, found = written
        self._folder.add(entry)
        self._stream.release(found)
        self._progressed.add_one()

    def report(self) -> int:
        """Prints what was found; the exit code."""
        results, least = self._folder.results, self._options.min_score
        videos = [x for x in results if "video" in x]
        total = sum(x["num_detections"] for x in videos)
        total += sum(len(x["detections"]) for x in results if "detections" in x)
        frames = sum(x["num_frames"] for x in videos)
        looked_at = counted(len(results) - len(videos), "image")
        if videos:
            looked_at += f" and {counted(frames, 'frame')} of {counted(len(videos), 'video')}"
        print(
            f"{counted(total, 'detection')} in {looked_at} with a score of {least:g} or more; "
            f"pictures and {infer_folder.DETECTIONS} are in {self._options.output_dir}"
        )
        if results and not total:
            print(self._best_line())
        if results and "macs" in results[0]:
            print(_cost_line(results))
        print(_throughput_line(self._stream))
        for line in self._left_out:
            print(f"{COMMAND.name}: left out {printable(line)}", file=sys.stderr)
        return 1 if self._left_out else 0

    def _best_line(self) -> str:
        score, name, file = self._best
        if score < 0:
            return "the model gave no box of any score; is it trained?"
        shown = f"the best score found is {score:.3g} ({printable(name)} in {printable(file)})"
        return f"{shown}; --min_score={score:.1g} or less shows it" if score >= 1e-3 else shown


def _throughput_line(stream: "Stream") -> str:
    """How fast it went, from the second batch on."""
    timing = stream.timing
    if not timing.images or timing.started is None:
        return "throughput: all was in the first batch, whose time is that of building the graph"
    seconds = time.perf_counter() - timing.started
    return (
        f"throughput: {timing.images / seconds:.1f} images/s with reading and drawing; the network "
        f"took {1e3 * timing.network_seconds / timing.images:.1f} ms an image, {stream.batch_size} "
        "in a batch (the first batch is left out)"
    )


class _Progress:
    """Counts images that are done, in whatever order, and shows how many of all."""

    def __init__(self, total: int):
        self._counter, self._done, self._total = progress.ImageCounter(), 0, total

    def add_one(self) -> None:
        self._done += 1
        self._counter(self._done, self._total)


def _what_is_wrong(error: Any) -> str:
    if isinstance(error, OSError):
        return error.strerror
    reason = f" ({error})" if error.kind in ("unreadable_image", "palette_image") else ""
    return f"{error.kind.replace('_', ' ')}{reason}"


def _cost_line(results: list[dict[str, Any]]) -> str:
    weights = [result.get("num_frames", 1) for result in results]
    hard, macs = (
        sum(w * x.get(name, 0) for w, x in zip(weights, results, strict=True)) / sum(weights)
        for name in ("is_hard", "macs")
    )
    share = f"{100 * hard:.0f} % of the images were hard; " if "is_hard" in results[0] else ""
    return f"{share}{macs / 1e9:.4g} GMAC per image"


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
