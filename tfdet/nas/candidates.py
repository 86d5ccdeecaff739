"""The candidates of a search: a table with a row for each, and the weights that are still needed.

In the folder of a search

    candidates.jsonl          a line of JSON for each candidate, in the order of their numbers
    weights/0012.npz          the weights of a candidate, by the names of `nas.weights`

A candidate counts from the moment its row stands in the table. Its weights are written before, and
each file is written whole or not at all, so that a kill or a full disk loses no candidate.
"""

import contextlib
import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from tfdet import documents, files, records
from tfdet.backbones.encoding import Encoding, parse_encoding
from tfdet.errors import UserError
from tfdet.nas.morphism import Action
from tfdet.nas.subnets import Subnet
from tfdet.nas.weights import Weights

TABLE_FILE = "candidates.jsonl"
WEIGHTS_FOLDER = "weights"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A row of the table.

    Attributes:
        number: 0 for the base detector, which is measured only.
        generation: candidates of one do not know of each other; the base's is 0.
        lineage: numbers from the base to this one; the last but one is the parent's.
        action: what was done to the parent's backbone; None where it was left as it is.
        encoding: of the backbone, `Encoding.to_text`.
        image_size: (height, width) that it is trained and measured at.
        subnet: of the elastic teacher; None without one.
        teacher: who taught it, for people; "" for nobody.
        parameters, macs, mmdet_flops: see `profiling.Profile`, at `image_size`.
        metrics: the COCO numbers, 0-1.
        losses: mean loss and its terms in the short training.
        score: see `nas.score`; 0 for a candidate that failed.
        steps: of the short training.
        seconds: that it took, all in all.
        failure: why there are no measurements; "" where there are.
    """

    number: int
    generation: int
    lineage: tuple[int, ...]
    action: Action | None
    encoding: str
    image_size: tuple[int, int]
    subnet: Subnet | None
    teacher: str
    parameters: int
    macs: int
    mmdet_flops: int
    metrics: dict
    losses: dict
    score: float
    steps: int
    seconds: float
    failure: str = ""

    @property
    def ap(self) -> float:
        return self.metrics.get("AP", 0.0)

    @property
    def parent(self) -> int | None:
        return self.lineage[-2] if len(self.lineage) > 1 else None

    @property
    def net(self) -> Encoding:
        return parse_encoding(self.encoding, f"the encoding of candidate {self.number}")

    def to_line(self) -> str:
        return json.dumps(records.to_dict(self))


class Table(Mapping[int, Candidate]):
    """The candidates by their numbers, as they stand in a folder.

    Args:
        folder: of the search; made when the first candidate is added.
    """

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)
        self._rows = {row.number: row for row in read_table(self.folder / TABLE_FILE)}

    def __getitem__(self, number: int) -> Candidate:
        return self._rows[number]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, candidate: Candidate, weights: Weights | None) -> None:
        """Writes a candidate with its weights; None for one that failed."""
        rows = {**self._rows, candidate.number: candidate}
        with self._telling(candidate.number):
            if weights is not None:
                self._write_weights(candidate.number, weights)
            text = "".join(rows[number].to_line() + "\n" for number in sorted(rows))
            files.write_text(self.folder / TABLE_FILE, text)
        self._rows = rows

    def weights(self, number: int) -> Weights:
        """The weights of a candidate."""
        path = self._weights_file(number)
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            kept = ", ".join(map(str, self.with_weights()))
            raise UserError(
                f"the weights of candidate {number} are not kept; there are those of {kept}, the "
                "best ones and those with the most AP at their cost"
            ) from None
        except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} is damaged ({error}); it must come from a backup") from None

    def with_weights(self) -> list[int]:
        """Numbers of the candidates whose weights are there."""
        return [number for number in self if self._weights_file(number).is_file()]

    def drop_weights(self, keep: Collection[int]) -> None:
        """Removes the weights of all candidates but some."""
        for number in self.with_weights():
            if number not in keep:
                self._weights_file(number).unlink()

    def _write_weights(self, number: int, weights: Weights) -> None:
        path = self._weights_file(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(path) as file:
            np.savez(file, **weights)

    def _weights_file(self, number: int) -> pathlib.Path:
        return self.folder / WEIGHTS_FOLDER / f"{number:04d}.npz"

    @contextlib.contextmanager
    def _telling(self, number: int) -> Iterator[None]:
        try:
            yield
        except (files.NotWritten, OSError) as error:
            raise UserError(
                f"candidate {number} could not be written to {self.folder} ({error}); "
                f"the {len(self)} before it are kept. Make room there and give the same command "
                "again: it resumes from them"
            ) from None


def read_table(path: str | pathlib.Path) -> list[Candidate]:
    """The rows of a table; none where there is no file."""
    path = pathlib.Path(path)
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(documents.read_text(path, "table").splitlines(), start=1):
        try:
            rows.append(records.from_dict(Candidate, documents.parse_json(line, "it")))
        except UserError as error:
            raise UserError(f"{path} cannot be read in line {number}: {error}") from None
    return rows
