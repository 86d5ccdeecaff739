"""What a run was trained and measured on, in few numbers, so that a change is noticed."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping

from tfdet import files, records
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError

_FILE = "data.json"


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """A data set without its pictures and boxes; one in another place has the same.

    Attributes:
        images: how many.
        class_names: by label.
        in_order: checksum of the images' names and ids, in their order.
        in_any_order: the same of the sorted names.
    """

    images: int
    class_names: tuple[str, ...]
    in_order: str
    in_any_order: str


Fingerprints = Mapping[str, Fingerprint]


def of(dataset: DetectionDataset) -> Fingerprint:
    """The fingerprint of a data set."""
    names = [f"{name}\0{i}" for name, i in zip(dataset.names, dataset.image_ids, strict=True)]
    class_names = tuple(str(name) for name in dataset.class_names)
    return Fingerprint(len(dataset), class_names, _checksum(names), _checksum(sorted(names)))


def of_all(**datasets: DetectionDataset | None) -> dict[str, Fingerprint]:
    """The fingerprints of those data sets that are there, by name."""
    return {name: of(dataset) for name, dataset in datasets.items() if dataset is not None}


def write(folder: pathlib.Path, fingerprints: Fingerprints) -> None:
    """Keeps fingerprints in a folder; those of other names stay."""
    kept = {**read(folder), **fingerprints}
    plain = {name: records.to_dict(fingerprint) for name, fingerprint in kept.items()}
    files.write_text(folder / _FILE, json.dumps(plain, indent=1) + "\n")


def read(folder: pathlib.Path) -> dict[str, Fingerprint]:
    """Those of a folder; none where it has been begun without."""
    path = folder / _FILE
    if not path.is_file():
        return {}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {name: records.from_dict(Fingerprint, facts) for name, facts in plain.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to resume without it") from None


def difference(ours: Fingerprint, theirs: Fingerprint) -> str:
    """What is other in `ours` than it was in `theirs`, in words; "" where nothing is."""
    parts = []
    if ours.images != theirs.images:
        parts.append(f"{ours.images} images, it had {theirs.images}")
    if ours.class_names != theirs.class_names:
        parts.append(f"the classes {_list(ours.class_names)}, it had {_list(theirs.class_names)}")
    if ours.images == theirs.images and ours.in_any_order != theirs.in_any_order:
        parts.append("images with other names")
    elif ours.images == theirs.images and ours.in_order != theirs.in_order:
        parts.append("its images in another order")
    return " and ".join(parts)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (", ..." if names[8:] else "")


def _checksum(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]
