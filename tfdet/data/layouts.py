"""Pairs of images and annotation files in a folder, whatever the folders in it are called."""

import dataclasses
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set

from tfdet import limits
from tfdet.data import image_names
from tfdet.errors import UserError

# Names that say what a folder holds and not which of the images: a.jpg in images/train belongs to
# a.xml in annotations/train, and to that in train/labels.
_OF_ANNOTATIONS = {"annotations", "annotation", "labels", "label", "xml", "xmls", "txt"}
_OF_ANNOTATIONS |= {"bboxes", "boxes"}
_OF_IMAGES = {"images", "image", "imgs", "img", "jpegimages", "jpeg", "jpg", "png"}
_OF_IMAGES |= {"photos", "pictures"}
_KINDS = _OF_IMAGES | _OF_ANNOTATIONS
_SPLIT = re.compile(r"(train|training|val|valid|validation|test|testing)(20\d\d)?", re.IGNORECASE)
_SAME = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_MOST_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image, and the file of its annotations.

    Attributes:
        name: of the image inside the data set, such as train/a.jpg.
        image: its path.
        annotation: path of the file; None for an image that has none beside others that have one.
    """

    name: str
    image: str
    annotation: str | None

    @property
    def split(self) -> str | None:
        """train, val or test where a folder in the name is one; None otherwise."""
        splits = (split_of(part) for part in self.name.split("/")[:-1])
        return next(filter(None, splits), None)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What belongs together in a folder.

    Attributes:
        directory: the folder.
        pairs: by name.
        orphans: annotation files without an image, next to files that have one.
        others: images of folders in which none has an annotation; they are left out.
        files: relative paths of all files in it.
    """

    directory: str
    pairs: list[Pair]
    orphans: list[str]
    others: list[str]
    files: list[str]

    def of_split(self, split: str | None) -> tuple[list[Pair], str | None]:
        """The pairs of a split, and the split that is still to be made of them, if any.

        Where folders are named like splits, at least two, these are the splits. Otherwise "train"
        and "val" are still to be made.
        """
        if split is None:
            return self.pairs, None
        own = Counter(pair.split for pair in self.pairs)
        own.pop(None, None)
        wanted = split_of(split) or split
        if len(own) > 1 and wanted in own:
            return [pair for pair in self.pairs if pair.split == wanted], None
        if len(own) <= 1 and wanted in ("train", "val"):
            return self.pairs, wanted
        way = f"its folders are {', '.join(sorted(own))}; give one of them" if own else _NO_FOLDERS
        raise UserError(
            f"{self.directory} has no split {split!r}: {way}, or leave {split!r} out for all images"
        )

    def sentence(self) -> str:
        """Where the images and their annotations were found."""
        images = _folders(pair.image for pair in self.pairs)
        annotations = _folders(pair.annotation for pair in self.pairs if pair.annotation)
        where = f"images in {images}, annotations in {annotations}"
        if images == annotations:
            where = f"images and annotations side by side in {images}"
        if self.others:
            where += f"; {len(self.others)} images of {_folders(self.others)} are left out, where "
            where += "no image has an annotation"
        return where


_NO_FOLDERS = "no list and no folder names one; give train or val, which are made from all images"


def split_of(name: str) -> str | None:
    """train, val or test where a name is one of them, or another word for it, maybe with a year."""
    found = _SPLIT.fullmatch(name)
    word = found[1].lower() if found else None
    return _SAME.get(word, word) if word else None


def find(directory: str, endings: tuple[str, ...], ignored: Set[str] = frozenset()) -> Layout:
    """Pairs each image below a folder with the annotation file of its name.

    Args:
        directory: to look into.
        endings: of annotation files, such as (".xml",).
        ignored: file names in lower case that are no annotations.
    """
    files = sorted(_walk(directory), key=lambda file: (_is_of_annotations(file), file))
    images: dict[str, str] = {}
    twins: list[str] = []  # of another ending: the reader counts them as duplicates
    annotations: dict[str, str] = {}
    for file in files:
        name = file.rpartition("/")[2]
        if image_names.is_image(name):
            key = _key(file)
            twins += [file] if key in images else []
            images.setdefault(key, file)
        elif name.lower().endswith(endings) and name.lower() not in ignored:
            annotations.setdefault(_key(file), file)
    partner = {key: annotations[key] for key in images if key in annotations}
    if not partner:
        partner = _by_stem(images, annotations)
    image_folders = {os.path.dirname(images[key]) for key in partner}
    used = set(partner.values())
    annotation_folders = {os.path.dirname(file) for file in used}
    pairs = [
        Pair(
            key + os.path.splitext(file)[1],
            os.path.join(directory, file),
            os.path.join(directory, partner[key]) if key in partner else None,
        )
        for key, file in [*images.items(), *((_key(twin), twin) for twin in twins)]
        if os.path.dirname(file) in image_folders
    ]
    others = [
        os.path.join(directory, file)
        for file in [*images.values(), *twins]
        if os.path.dirname(file) not in image_folders
    ]
    orphans = [
        os.path.join(directory, file)
        for file in annotations.values()
        if file not in used and os.path.dirname(file) in annotation_folders
    ]
    return Layout(directory, sorted(pairs, key=lambda pair: pair.name), orphans, others, files)


def found_in(layout: Layout) -> str:
    """What a folder holds, for messages: counts by folder and ending."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in layout.files:
        counts[os.path.dirname(file) or ".", os.path.splitext(file)[1].lower()] += 1
    if not counts:
        return "no file"
    most = counts.most_common(_MOST_SHOWN)
    listed = [f"{count} {ending or 'other'} in {folder}" for (folder, ending), count in most]
    more = len(counts) - len(most)
    return ", ".join(listed) + (f" and {more} other kinds or folders" if more else "")


def _walk(directory: str) -> Iterator[str]:
    """Relative paths of the files below a folder, with / between the parts.

    Links to folders are followed, but no folder is looked into twice.
    """
    seen, count = set(), 0
    for folder, folders, names in os.walk(directory, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(x for x in folders if not x.startswith((".", "__")))
        count += len(names)
        if count > limits.MAX_FOLDER_FILES:
            raise UserError(
                f"{directory} has more than {limits.MAX_FOLDER_FILES} files; name the folder of "
                "the data set itself"
            )
        inner = os.path.relpath(folder, directory).replace(os.sep, "/")
        for name in names:
            if not name.startswith("."):
                yield name if inner == "." else f"{inner}/{name}"


def _is_of_annotations(file: str) -> bool:
    """Whether a file lies among annotations; a picture there is a mask beside an XML file."""
    return not _OF_ANNOTATIONS.isdisjoint(file.lower().split("/")[:-1])


def _key(file: str) -> str:
    """What an image and its annotation have in common."""
    *folders, name = os.path.splitext(file)[0].split("/")
    return "/".join([*(x for x in folders if x.lower() not in _KINDS), name])


def _by_stem(images: dict[str, str], annotations: dict[str, str]) -> dict[str, str]:
    """Image key -> annotation for folders of unknown names, by the names of the files alone."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for file in annotations.values():
        by_stem[os.path.splitext(file.rpartition("/")[2])[0]].append(file)
    stems = Counter(key.rpartition("/")[2] for key in images)
    found = {}
    for key in images:
        stem = key.rpartition("/")[2]
        if stems[stem] == 1 and len(by_stem.get(stem, ())) == 1:
            found[key] = by_stem[stem][0]
    return found


def _folders(paths: Iterable[str]) -> str:
    folders = sorted({os.path.dirname(path) for path in paths})
    more = len(folders) - _MOST_SHOWN
    return ", ".join(folders[:_MOST_SHOWN]) + (f" and {more} other folders" if more > 0 else "")
