"""The state from which a killed training run resumes as if nothing had happened."""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdet import files
from tfdet.errors import UserError
from tfdet.training import averaging

_DAMAGE = (zipfile.BadZipFile, OSError, ValueError, KeyError, EOFError, RecursionError)
_KEPT = 2  # the newest state and the one before it, should the newest turn out damaged


@dataclasses.dataclass
class Progress:
    """How far a run is; everything about it that is not a variable.

    Attributes:
        step: optimizer steps done; the data order follows from it.
        history: one row of measurements per finished epoch.
        best_score: AP of the best weights so far, None before the first measurement.
        seconds: time spent so far, restarts included.
    """

    step: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_score: float | None = None
    seconds: float = 0.0


class StateFolder:
    """Numbered state files in a folder, the two newest of them kept.

    Args:
        folder: made when the first state is written.
    """

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)

    def write(self, step: int, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Writes a state, all or nothing, and removes those that are no longer needed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with files.writing(self.folder / f"{step:010d}.npz") as file:
            contents: Any = {"facts": text, **arrays}  # not keywords of savez itself
            np.savez(file, **contents)
        for old in self._files()[:-_KEPT]:
            old.unlink()

    def read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The newest state that is whole, or None where there is none.

        A damaged file (the checksums of the archive tell) is passed over aloud.
        """
        saved = self._files()
        for path in reversed(saved):
            try:
                with np.load(path, allow_pickle=False) as archive:
                    arrays = {key: archive[key] for key in archive.files}
                facts = json.loads(arrays.pop("facts").tobytes())
                if not isinstance(facts, dict):
                    raise ValueError(f"its facts are {type(facts).__name__}, not a mapping")
            except _DAMAGE as error:
                print(f"state {path} is damaged ({error}); trying the one before it", flush=True)
                continue
            return arrays, facts
        if saved:
            raise UserError(
                f"no state in {self.folder} can be read; remove the folder to start again"
            )
        return None

    def has_any(self) -> bool:
        """Whether a state is there, be it whole or not."""
        return bool(self._files())

    def _files(self) -> list[pathlib.Path]:
        return sorted(self.folder.glob("[0-9]*.npz"))


class TrainingState:
    """All that a run is made of, as arrays: weights, optimizer, averages, metrics, random seeds.

    Args:
        model: built and compiled, with a built optimizer.
        averages: the moving averages, or None.
        progress: filled in by `restore`.
    """

    def __init__(
        self,
        model: keras.Model,
        averages: averaging.MovingAverages | None,
        progress: Progress,
    ):
        self.model = model
        self.averages = averages
        self.progress = progress
        self._epoch_metrics: list[np.ndarray] | None = None

    def capture(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and facts to write; under multi_worker every worker must call it."""
        arrays = {}
        for group, variables in self._groups().items():
            for i, variable in enumerate(variables):
                arrays[f"{group}/{i}"] = _read(variable)
        return arrays, dataclasses.asdict(self.progress)

    def restore(self, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Puts a captured state back; the metrics' part waits for `restore_metrics`."""
        groups = self._groups()
        self._check(groups, arrays)
        _fill(self.progress, facts)
        for group, variables in groups.items():
            values = [arrays[f"{group}/{i}"] for i in range(len(variables))]
            if group == "metrics":
                self._epoch_metrics = values
                continue
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def restore_metrics(self) -> None:
        """Puts the metrics of the interrupted epoch back; `fit` has just reset them."""
        if self._epoch_metrics is None:
            return
        for variable, value in zip(self.model.metrics_variables, self._epoch_metrics, strict=True):
            variable.assign(value)
        self._epoch_metrics = None

    def _groups(self) -> dict[str, list[Any]]:
        return {
            "model": self.model.variables,  # with the seeds of random layers
            "optimizer": self.model.optimizer.variables,
            "averages": self.averages.averages if self.averages else [],
            "metrics": self.model.metrics_variables,
            "run": getattr(self.model, "run_variables", []),  # of detectors
        }

    def _check(self, groups: dict[str, list[Any]], arrays: dict[str, np.ndarray]) -> None:
        expected = {
            f"{group}/{i}": tuple(variable.shape)
            for group, variables in groups.items()
            for i, variable in enumerate(variables)
        }
        found = {key: value.shape for key, value in arrays.items()}
        wrong = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
        if wrong:
            raise UserError(
                f"the saved state does not fit the model ({len(wrong)} arrays differ, first "
                f"{wrong[0]}: {found.get(wrong[0])} saved, {expected.get(wrong[0])} wanted); "
                "was it written by another version? Choose another --model_dir"
            )


def _fill(progress: Progress, facts: dict[str, Any]) -> None:
    """Takes over facts; odd ones, of a damaged or a changed file, are a `UserError`."""
    is_sound = (
        facts.keys() == dataclasses.asdict(progress).keys()
        and type(facts["step"]) is int
        and facts["step"] >= 0
        and isinstance(facts["history"], list)
        and all(isinstance(row, dict) and "epoch" in row for row in facts["history"])
        and isinstance(facts["best_score"], (int, float, type(None)))
        and isinstance(facts["seconds"], (int, float))
    )
    if not is_sound:
        raise UserError(
            f"the saved state has facts that no run wrote ({str(facts)[:100]}); remove the newest "
            "file in the folder state to resume from the one before it"
        )
    for name, value in facts.items():
        setattr(progress, name, value)


def _read(variable: Any) -> np.ndarray:
    return variable.numpy() if isinstance(variable, tf.Variable) else averaging.read(variable)
