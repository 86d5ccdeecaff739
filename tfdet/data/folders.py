"""Images for classification: a directory that has a folder of images for each class."""

import os

import numpy as np

from tfdet.data import image_names
from tfdet.data.dataset import DetectionDataset
from tfdet.data.paths import require_directory
from tfdet.data.problems import Problems
from tfdet.errors import UserError


def open_folders(path: str, class_names: tuple[str, ...] = ()) -> DetectionDataset:
    """The images below `path`, with the names of the folders there as classes.

    Pictures in formats that are not read are left out, with a warning.

    The label of image i is row i of `labels`: each image has one box, of its first pixel, since
    where its object is is not known. Sizes are 0, not read: ImageNet has a million files.

    Args:
        path: the directory; ImageNet's `train` for example.
        class_names: folders that must be there, by label; all that there are where not given.
    """
    require_directory(path, "images for classification")
    folders = [entry.name for entry in os.scandir(path) if entry.is_dir()]
    names = tuple(class_names or sorted(folders))
    if set(folders) - set(names):
        stranger = sorted(set(folders) - set(names))[0]
        raise UserError(f"{path} has a folder {stranger!r}, which is no class of the other data")
    files, labels, problems = [], [], Problems()
    for label, name in enumerate(names):
        own = _images(os.path.join(path, name), problems) if name in folders else []
        files += own
        labels += [label] * len(own)
    problems.warn(path)
    if not files:
        raise UserError(f"{path} has no folder with images ({', '.join(image_names.ENDINGS)})")
    count = len(files)
    return DetectionDataset(
        name=path,
        class_names=names,
        class_ids=tuple(range(len(names))),
        image_ids=np.arange(count),
        names=np.array([os.path.relpath(file, path) for file in files]),
        files=np.array(files),
        sizes=np.zeros((count, 2), np.int32),
        box_offsets=np.arange(count + 1),
        boxes=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        labels=np.array(labels, np.int32),
        is_crowd=np.zeros(count, bool),
        areas=np.ones(count, np.float32),
        problems=problems,
    )


def _images(folder: str, problems: Problems) -> list[str]:
    names = sorted(os.listdir(folder))
    for name in filter(image_names.is_other_picture, names):
        problems.add("other_format", os.path.join(folder, name))
    return [os.path.join(folder, name) for name in names if image_names.is_image(name)]
