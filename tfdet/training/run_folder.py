"""The folder of a training, a pre-training or a search."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from tfdet import config, files
from tfdet.errors import UserError
from tfdet.training import checkpoint, fingerprint, trained

# Folders in it that are written to.
_BELOW = ("state", "logs", "pictures")
# What no step of the training depends on.
_HARMLESS = (
    *("train.save_seconds", "train.connect_seconds", "data.cache"),
    *("eval.interval", "eval.pictures", "eval.batch_size"),
)


class RunFolder:
    """A folder that one recipe is run in, by one process at a time, however often it is killed.

        for change in folder.check(recipe):         ahead of slow work
            print(change)
        with folder.claimed(recipe, command):       from here on it is ours
            folder.states.read() ...                where the run was killed

    Args:
        path: of the folder; it need not be there yet.
        recipe_file: name of the recipe in it.
        kind: dataclass of the recipe.
        flag: what users call the folder.
        free: beginnings of dotted keys that may change when a run resumes.
        is_writer: False in the processes that only read what another one writes.
        data: what the run is trained and measured on, by key of section `data`.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        recipe_file: str,
        kind: type = config.Recipe,
        flag: str = "--model_dir",
        free: tuple[str, ...] = (),
        is_writer: bool = True,
        data: fingerprint.Fingerprints | None = None,
    ):
        self.path = pathlib.Path(path)
        self.recipe_file = self.path / recipe_file
        self.states = checkpoint.StateFolder(self.path / "state")
        self.is_writer = is_writer
        self._kind = kind
        self._flag = flag
        self._free = free
        self._data = data or {}

    def check(self, recipe: Any) -> list[str]:
        """Refuses a folder that cannot be written to, or was begun with another recipe or data.

        Returns:
            Sentences about the changes that a run resumes with.
        """
        folder = self.path.absolute()
        above = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if above.is_symlink() and not above.exists():
            raise UserError(f"{self._flag}={self.path}: {above} is a link to what is not there")
        if not above.is_dir():
            raise UserError(f"{self._flag}={self.path}: {above} is a file; give a folder")
        if self.is_writer and not os.access(above, os.W_OK):
            raise UserError(f"{self._flag}={self.path}: {above} cannot be written to")
        for link in (path for path in folder.glob("*") if path.is_symlink()):
            if link.name in _BELOW:
                raise UserError(f"{link} is a link, which is not followed; remove it")
        if not self.recipe_file.is_file():
            return []
        begun = config.load_recipe(self.recipe_file, self._kind)
        other = self._other_data()
        different = config.differences(recipe, begun)
        different = [key for key in different if not key.startswith(self._free)]
        allowed = [key for key in different if self._may_change(key, recipe, begun, other)]
        refused = [key for key in different if key not in allowed]
        if refused:
            raise UserError(
                f"{self.path} was begun with another recipe ({'; '.join(refused)}); use the same "
                f"recipe to resume (--hparams={self.recipe_file}), or another {self._flag} to "
                f"start again{self._way_on()}"
            )
        if other and self.states.has_any():
            changed = "; ".join(f"data.{name} has {words}" for name, words in other.items())
            raise UserError(
                f"{self.path} was begun with other data ({changed}); put it back as it was to "
                f"resume, or use another {self._flag} to start again{self._way_on()}"
            )
        if self._data and not self.states.has_any() and self._has_lost_its_state(recipe):
            raise UserError(
                f"{self.path} has the weights of a training but no state to resume from, and to "
                f"start again would replace them; use another {self._flag}{self._way_on()}"
            )
        return [_changed(change) for change in allowed]

    def _has_lost_its_state(self, recipe: Any) -> bool:
        """Whether there are weights of more than a run that was killed before its first state."""
        if not any(self.path.glob("*.weights.h5")):
            return False
        start = recipe.train.pretrained
        if start and os.path.realpath(start) == os.path.realpath(self.path):  # of tfdet-prune
            return False
        history = self.path / "logs" / "history.jsonl"
        rows = history.read_bytes().count(b"\n") if history.is_file() else 0
        # Each epoch ends with a state. Who copies weights leaves out what they were trained on.
        return rows > 1 or not fingerprint.read(self.path)

    def _other_data(self) -> dict[str, str]:
        """What has changed in the data, by key of section `data`, in words."""
        begun = fingerprint.read(self.path)
        both = [name for name in self._data if name in begun]
        found = {name: fingerprint.difference(self._data[name], begun[name]) for name in both}
        return {name: words for name, words in found.items() if words}

    def _may_change(self, change: str, recipe: Any, begun: Any, other: dict[str, str]) -> bool:
        """Whether a run that resumes with this change comes to a result of the same kind."""
        key = change.partition(":")[0]
        if not self._data:  # a search
            return False
        if key == "train.num_epochs":
            return recipe.train.num_epochs > begun.train.num_epochs
        section, _, name = key.partition(".")
        if section == "data" and name in ("train", "val"):  # the same data in another place
            return name not in other and name in self._data and name in fingerprint.read(self.path)
        return key in _HARMLESS

    def _way_on(self) -> str:
        """For a changed recipe that shall not lose what was learned."""
        if self._kind is not config.Recipe:
            return ""
        return f" (with --pretrained={self.path}, from the weights in it)"

    @contextlib.contextmanager
    def claimed(self, recipe: Any, command: str) -> Iterator[None]:
        """Within the block no other process can claim the folder, which has been made if need be.

        Args:
            recipe: is written into it.
            command: what the user typed; is written too, "" leaves the file as it is.
        """
        if not self.is_writer:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            config.save_recipe(recipe, self.recipe_file)
            trained.save_command(self.path, command)
            if self._data:
                fingerprint.write(self.path, self._data)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written to ({error.strerror})") from None
        with files.holding(self.path):
            yield


def _changed(change: str) -> str:
    follows = "; the learning rate follows the longer schedule from here on"
    return f"resuming with {change}{follows if change.startswith('train.num_epochs:') else ''}"
