"""What a client must know about an export: a file beside the network."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfdet import documents, files, records
from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.base import Detector
from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError
from tfdet.version import __version__

FILE = "detector.json"


@dataclasses.dataclass(frozen=True)
class Description:
    """What an export is, and what it was made from.

    The forms other than the SavedModel are run by this. A SavedModel holds what running it needs
    itself, and this file is in its folder for people: `assets.extra/detector.json`.

    Attributes:
        format, precision: see `formats.Form`.
        model: name of the detector.
        class_names, class_ids: by label.
        image_size: (height, width) of the canvas that images are fitted into.
        pad_value: the colour around them, RGB.
        threshold: of a dynamic detector, its own; None of others.
        calibration: of a dynamic detector that has been calibrated.
        grid: of a CADDet, what its routes lead through.
        takes_canvas: whether it takes one fitted image at a time, see `pieces.pieces_of`.
        pieces: names of the files, in the order in which they run.
        version: of tfdet that wrote it.
        versions: of the packages that wrote it, by name.
        recipe: of the training, by section; of a model without one its configuration alone, under
            "model".
    """

    format: str
    precision: str
    model: str
    takes_canvas: bool
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    image_size: tuple[int, int]
    pad_value: tuple[float, float, float]
    threshold: float | None = None
    calibration: Calibration | None = None
    grid: SupernetConfig | None = None
    pieces: tuple[str, ...] = ("detector",)
    version: str = __version__
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Detector,
        format: str,
        precision: str,
        takes_canvas: bool,
        pieces: tuple[str, ...] = (),
        recipe: Mapping[str, Any] | None = None,
    ) -> "Description":
        """That of a detector in a form; `recipe` is that of its training."""
        dynamic: Any = model if model.is_dynamic else None
        own = {"name": model.name, **records.to_dict(model.config)}
        return cls(
            format=format,
            precision=precision,
            takes_canvas=takes_canvas,
            pieces=pieces,
            model=model.name,
            class_names=tuple(model.class_names),
            class_ids=tuple(model.class_ids),
            image_size=model.image_size,
            pad_value=model.pad_value,
            threshold=dynamic and dynamic.threshold,
            calibration=dynamic and dynamic.calibration,
            grid=model.route_map,
            versions=_versions(),
            recipe=dict(recipe or {"model": own}),
        )

    def write(self, folder: pathlib.Path) -> None:
        files.write_text(folder / FILE, json.dumps(records.to_dict(self), indent=1))

    @classmethod
    def read(cls, folder: str | pathlib.Path) -> "Description":
        """That of the export in `folder`; a `UserError` where it is damaged."""
        path = pathlib.Path(folder) / FILE
        plain = documents.parse_json(documents.read_text(path, "the export's"), str(path))
        try:
            about = records.from_dict(cls, plain)
        except UserError as error:
            raise UserError(f"{path} is not as tfdet-export writes it: {error}") from None
        for name in about.pieces:
            if not name.isidentifier():
                raise UserError(f"{path} names a piece {name!r}; export the model again")
        return about


def _versions() -> dict[str, str]:
    return {"tfdet": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
