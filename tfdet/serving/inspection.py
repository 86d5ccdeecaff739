"""What is in an export, for people: labels, calibration, recipe, versions, and whether it runs."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from tfdet import records
from tfdet.detectors.calibration import EFFORTS
from tfdet.errors import UserError
from tfdet.printable import counted
from tfdet.serving import description, formats
from tfdet.serving.description import Description
from tfdet.serving.driver import LIBRARY_FOLDER, Driver
from tfdet.serving.exported import open_exported
from tfdet.serving.server import saved_model

# Rows of the calibration that people see, of the 101 that there are.
_EVERY = 10
READY = "ready: it runs here"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found in an export.

    Attributes:
        path: its folder.
        status: `READY`, or why it does not run here.
        about: what it is and was made from; None where that cannot be found out.
        signatures: of a SavedModel, the inputs and outputs of each as text.
    """

    path: str
    status: str
    about: Description | None
    signatures: dict[str, dict[str, list[str]]]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        about = records.to_dict(self.about) if self.about else {}
        table = about.get("calibration")
        if table:
            about["calibration"] = {"efforts": EFFORTS.tolist(), **table}
        return {
            "path": self.path,
            "status": self.status,
            **about,
            "signatures": self.signatures,
        }

    def to_text(self) -> str:
        """All of it as lines."""
        lines = [f"status: {self.status}"]
        if self.about:
            lines = [_title(self.about), *lines, *_facts(self.about)]
        for name, sides in self.signatures.items():
            lines.append(f"signature {name}")
            lines += [f"  {side:<8}{x}" for side, rows in sides.items() for x in rows]
        if self.about and self.about.recipe:
            recipe = yaml.safe_dump(self.about.recipe, sort_keys=False, allow_unicode=True)
            lines += ["recipe", *(f"  {line}" for line in recipe.splitlines())]
        return "\n".join(lines)


def inspect(path: str | pathlib.Path) -> Inspection:
    """What is in the export in the folder `path`, in whatever form.

    It is loaded and run with a blank image, which is what `status` reports.
    """
    folder = pathlib.Path(path)
    about = _described(folder)
    status, signatures = READY, {}
    try:
        driver = open_exported(folder)
        driver.detect(np.zeros((1, *driver.image_size, 3), np.uint8))
        about = about or _of_driver(driver)
    except UserError as error:
        if about is None:
            raise  # it is no export
        status = f"does not run here: {error}"
    if (folder / "saved_model.pb").is_file():
        signatures = _signatures(folder)
    return Inspection(str(path), status, about, signatures)


def _described(folder: pathlib.Path) -> Description | None:
    """None of an export of an earlier version, and of what is no export."""
    for place in (folder, folder / LIBRARY_FOLDER):
        if (place / description.FILE).is_file():
            return Description.read(place)
    return None


def _of_driver(driver: Driver) -> Description:
    """What an export without a description shows when it is loaded."""
    return Description(
        format=formats.SAVED_MODEL,
        precision="float32",
        model="unknown",
        takes_canvas=False,
        class_names=driver.class_names,
        class_ids=driver.class_ids,
        image_size=driver.image_size,
        pad_value=driver.pad_value or (0.0, 0.0, 0.0),
        threshold=driver.threshold,
        calibration=driver.calibration,
        grid=driver.route_map,
        pieces=(),
        version="an earlier one",
    )


def _signatures(folder: pathlib.Path) -> dict[str, dict[str, list[str]]]:
    return {
        name: {
            "takes": [_tensor(key, x) for key, x in sorted(one.inputs.items())],
            "returns": [_tensor(key, x) for key, x in sorted(one.outputs.items())],
        }
        for name, one in sorted(saved_model.read_signatures(folder).items())
        if name.startswith("serving_")
    }


def _tensor(name: str, info: Any) -> str:
    shape = info.tensor_shape
    sides = ", ".join("?" if axis.size < 0 else str(axis.size) for axis in shape.dim)
    shown = "any shape" if shape.unknown_rank else f"[{sides}]"
    return f"{name} {tf.as_dtype(info.dtype).name} {shown}"


def _title(about: Description) -> str:
    height, width = about.image_size
    return f"{about.model}, {about.format} in {about.precision}, images of {height}x{width}"


def _facts(about: Description) -> list[str]:
    versions = {"tfdet": about.version, **about.versions}
    lines = [f"written by {', '.join(f'{name} {x}' for name, x in versions.items())}", "classes"]
    width = max(len(str(i)) for i in (0, *about.class_ids)) + 2
    lines += [f"  {'label':>5}{'id':>{width}}  name"]
    rows = enumerate(zip(about.class_ids, about.class_names, strict=True))
    lines += [f"  {label:>5}{i:>{width}}  {name}" for label, (i, name) in rows]
    if about.threshold is not None:
        lines.append(f"dynamic, with the threshold {about.threshold:.4g}")
        lines += _calibration(about) if about.calibration else ["not calibrated: no efforts"]
    return lines


def _calibration(about: Description) -> list[str]:
    table = about.calibration
    assert table is not None
    lines = [
        f"calibration of {counted(table.images, 'image')}, with times of the machine that exported"
    ]
    lines.append(f"  {'effort':>6}{'threshold':>12}{'share':>8}{'GMAC':>10}{'ms':>8}")
    for i in range(0, len(EFFORTS), _EVERY):
        lines.append(
            f"  {EFFORTS[i]:>6.1f}{table.thresholds[i]:>12.4g}{table.shares[i]:>8.2f}"
            f"{table.macs[i] / 1e9:>10.4g}{table.latency_ms[i]:>8.2f}"
        )
    return lines
