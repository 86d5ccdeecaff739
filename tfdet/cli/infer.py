"""`tfdet-infer`: detections of image files as pictures and JSON."""

import collections
import glob
import json
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet import progress
from tfdet.cli import app, flags
from tfdet.errors import UserError

if TYPE_CHECKING:
    from tfdet.serving.driver import Driver

_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")

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
    "saved_model", None, "Folder that tfdet-export wrote.", flag_values=COMMAND.flags
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
absl_flags.DEFINE_boolean(
    "draw_routes",
    False,
    "Draw the route that each image took through a CADDet's grid beside its detections.",
    flag_values=COMMAND.flags,
)
flags.define_effort(COMMAND.flags)


def main(options: types.SimpleNamespace) -> int:
    """Detects in every image; 1 where some could not be read."""
    given = flags.check_model(options, "saved_model")
    flags.check_effort(options)
    if not 0 <= options.min_score <= 1:
        raise app.UsageError(f"--min_score must be between 0 and 1, got {options.min_score}")
    files = _find(options.input)
    pictures = _picture_names(files)
    _check_output(options.output_dir, files, pictures)
    from tfdet import files as file_lib
    from tfdet.data import decode
    from tfdet.serving import driver as drivers

    if given == "saved_model":
        driver = drivers.SavedModelDriver(options.saved_model)
    else:
        driver = drivers.ModelDriver(flags.load_model(options))
    threshold = flags.chosen_threshold(options, driver)
    if options.draw_routes and driver.route_map is None:
        raise UserError("--draw_routes: this detector has no routes; they are what a CADDet has")
    os.makedirs(options.output_dir, exist_ok=True)
    results, damaged, counter = [], [], progress.ImageCounter()
    for number, file in enumerate(files, 1):
        try:
            with open(file, "rb") as stream:
                image = decode.decode_image(stream.read())
        except decode.ImageError as error:
            damaged.append(f"{file}: {error.kind.replace('_', ' ')}")
        except OSError as error:
            damaged.append(f"{file}: {error.strerror}")
        else:
            path = os.path.join(options.output_dir, pictures[file])
            found = driver.detect(image[None], threshold)
            results.append(_result(driver, found, image, file, path, options))
        counter(number, len(files))
    path = os.path.join(options.output_dir, "detections.json")
    lines = ",\n".join(json.dumps(result) for result in results)
    file_lib.write_text(path, f"[\n{lines}\n]\n")
    return _report(results, damaged, options)


def _find(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        names = sorted(os.listdir(pattern))
        paths = [os.path.join(pattern, name) for name in names if name.lower().endswith(_ENDINGS)]
        files = [path for path in paths if os.path.isfile(path)]
        if not files:
            raise UserError(f"folder {pattern} holds no image ({', '.join(_ENDINGS)})")
        return files
    files = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not files:
        raise UserError(f"no file matches --input={pattern}")
    return files


def _picture_names(files: list[str]) -> dict[str, str]:
    """A name for each picture, unlike all others: a.jpg and b/a.png must not meet."""
    taken: collections.Counter[str] = collections.Counter()
    names = {}
    for file in files:
        stem = os.path.splitext(os.path.basename(file))[0]
        taken[stem] += 1
        names[file] = f"{stem}.jpg" if taken[stem] == 1 else f"{stem}~{taken[stem]}.jpg"
    return names


def _check_output(folder: str, files: list[str], pictures: dict[str, str]) -> None:
    """Refuses a folder in which a picture would take the place of an image."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"--output_dir={folder} is a file; give a folder")
    images = {os.path.realpath(file) for file in files}
    for picture in pictures.values():
        if os.path.realpath(os.path.join(folder, picture)) in images:
            raise UserError(
                f"--output_dir={folder} holds {picture} of --input, which would be overwritten; "
                "give another folder"
            )


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
    shown = image
    if "masks" in found:
        masks = found["masks"][: found["count"]][keep]
        shown = draw.draw_masks(image, boxes, labels, masks)
        runs = [_run_lengths(mask, box, image) for mask, box in zip(masks, boxes, strict=True)]
    drawn = draw.draw_boxes(shown, boxes, labels, driver.class_names, scores)
    if options.draw_routes:
        drawn = route_figures.route_beside(drawn, driver.route_map, found["gates"], found["macs"])
    draw.save_picture(picture, drawn)
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


def _report(results: list[dict], damaged: list[str], options: types.SimpleNamespace) -> int:
    total = sum(len(result["detections"]) for result in results)
    print(
        f"{total} detections in {len(results)} images with a score of {options.min_score:g} or "
        f"more; pictures and detections.json are in {options.output_dir}"
    )
    if results and "macs" in results[0]:
        hard, macs = (
            sum(result.get(name, 0) for result in results) / len(results)
            for name in ("is_hard", "macs")
        )
        share = f"{100 * hard:.0f} % of the images were hard; " if "is_hard" in results[0] else ""
        print(f"{share}{macs / 1e9:.4g} GMAC per image")
    for line in damaged:
        print(f"{COMMAND.name}: left out {line}", file=sys.stderr)
    return 1 if damaged else 0


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
