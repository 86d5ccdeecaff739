"""What a client must know about an export: a file beside the network."""

import dataclasses
import json
import pathlib
from typing import Any

from tfdet import documents, files, records
from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.base import Detector
from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError
from tfdet.version import __version__

FILE = "detector.json"


@dataclasses.dataclass(frozen=True)
class Description:
    """An export in another form than the SavedModel, which holds all this itself.

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

    @classmethod
    def of(
        cls,
        model: Detector,
        format: str,
        precision: str,
        takes_canvas: bool,
        pieces: tuple[str, ...],
    ) -> "Description":
        """That of a detector in a form."""
        dynamic: Any = model if model.is_dynamic else None
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
