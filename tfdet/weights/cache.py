"""The folder that downloaded weights are kept in."""

import pathlib

from tfdet import cache_folder
from tfdet.errors import UserError
from tfdet.weights.catalog import Entry

_ARCHIVES = (".tar.gz", ".tgz")


def folder() -> pathlib.Path:
    """The folder of weights in the cache folder; it need not be there."""
    return cache_folder.path() / "weights"


def place_of(entry: Entry) -> pathlib.Path:
    """Where the file of an entry is kept, or the folder that its archive was unpacked to."""
    file = entry.url.rpartition("/")[2]
    for ending in _ARCHIVES:
        file = file.removesuffix(ending)
    return folder() / entry.source / file


def is_archive(entry: Entry) -> bool:
    """Whether what is downloaded has to be unpacked."""
    return entry.url.endswith(_ARCHIVES)


def path_of(entry: Entry) -> str:
    """The file of an entry; a `UserError` that says how to fetch it where it is not there."""
    place = place_of(entry)
    if place.exists():
        # Of a package that was unpacked; a checkpoint of TensorFlow has several files.
        files = list(place.glob("*.pth")) if place.is_dir() else []
        return str(files[0] if len(files) == 1 else place)
    size = f" ({entry.megabytes:.0f} MB)" if entry.megabytes else ""
    raise UserError(
        f"the weights {entry.name} of {entry.source}{size} are not on this machine; download them "
        f"with `tfdet-weights fetch {entry.name}` (licence: {entry.licence})"
    )
