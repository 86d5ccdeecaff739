"""Where the annotations of a COCO data set lie, and the images that they are of."""

import os
import re
from collections.abc import Sequence

from tfdet.data import layouts
from tfdet.data.paths import join_inside
from tfdet.errors import UserError

_TRIED = 100  # file names that are looked for
_OTHER_TASKS = re.compile(r"captions|keypoints|panoptic|stuff|image_info", re.IGNORECASE)


def annotations_of(directory: str, split: str | None) -> tuple[str, str | None]:
    """The annotation file in a directory, and the split that is still to be made of its images.

    Files lie in the directory, in its folders (Roboflow's train/_annotations.coco.json) or in
    annotations/. Where a file or its folder is named like the split it is that file; where there
    is only one file, "train" and "val" are still to be made.
    """
    found = _files(directory)
    wanted = layouts.split_of(split) if split else None
    own = [path for path in found if wanted and _split_of_file(path) == wanted]
    if len(own) == 1 and len(found) > 1:
        return own[0], None
    if len(found) == 1 and split in (None, "train", "val"):
        return found[0], split
    listed = ", ".join(found) or "none"
    raise UserError(
        f"COCO data set {directory}: looked for {'the' if split is None else f'a {split}'} JSON "
        f"file in it, in its folders and in annotations/; found {listed}"
        + (f"; name one: coco:{found[0]}" if found else "")
    )


def image_directory(annotations: str, names: Sequence[str]) -> str:
    """The directory that the file names of an annotation file start from.

    Tried are the file's own folder, its images/ and the folder named like the file's split, then
    the same in the folder above. It is the first with most of the images.
    """
    tried = _places(annotations)
    some = names[:: max(1, len(names) // _TRIED)][:_TRIED]
    counts = [sum(map(os.path.isfile, _paths(place, some))) for place in tried]
    if not any(counts):
        example = f", such as {some[0]!r}," if some else ""
        raise UserError(
            f"{annotations}: none of its images{example} is in {', '.join(tried)}; give their "
            f"directory: coco:{annotations}:IMAGE_DIR"
        )
    return tried[counts.index(max(counts))]


def _files(directory: str) -> list[str]:
    folders = [directory, *(x.path for x in os.scandir(directory) if x.is_dir())]
    found = []
    for folder in sorted(folders):
        for name in sorted(os.listdir(folder)):
            is_other = _OTHER_TASKS.search(name) or name.startswith(".")
            if name.lower().endswith(".json") and not is_other:
                found.append(os.path.join(folder, name))
    return found


def _split_of_file(path: str) -> str | None:
    """The split that the name of a file has a word for (instances_train2017), or its folder."""
    folder, name = os.path.split(path)
    words = re.split(r"[^A-Za-z0-9]+", os.path.splitext(name)[0])
    splits = (layouts.split_of(word) for word in [*words, os.path.basename(folder)])
    return next(filter(None, splits), None)


def _places(annotations: str) -> list[str]:
    own = os.path.dirname(annotations) or "."
    words = re.split(r"[^A-Za-z0-9]+", os.path.splitext(os.path.basename(annotations))[0])
    split_words = [word for word in words if layouts.split_of(word)]
    inner = ["", "images", *split_words, *(f"images/{word}" for word in split_words)]
    inner += ["JPEGImages", "data", "imgs", "img"]
    above = os.path.join(own, os.pardir)
    places = [
        os.path.normpath(os.path.join(top, *x.split("/"))) for top in (own, above) for x in inner
    ]
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


def _paths(place: str, names: Sequence[str]) -> list[str]:
    return [path for name in names if (path := join_inside(place, name))]
