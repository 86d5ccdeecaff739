"""The folder of a training, a pre-training or a search."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from tfdet import config, files
from tfdet.errors import UserError
from tfdet.training import checkpoint, trained


class RunFolder:
    """A folder that one recipe is run in, by one process at a time, however often it is killed.

        folder.check(recipe)                        ahead of slow work
        with folder.claimed(recipe, command):       from here on it is ours
            folder.states.read() ...                where the run was killed

    Args:
        path: of the folder; it need not be there yet.
        recipe_file: name of the recipe in it.
        kind: dataclass of the recipe.
        flag: what users call the folder.
        free: beginnings of dotted keys that may change while a run goes on.
        is_writer: False in the processes that only read what another one writes.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        recipe_file: str,
        kind: type = config.Recipe,
        flag: str = "--model_dir",
        free: tuple[str, ...] = (),
        is_writer: bool = True,
    ):
        self.path = pathlib.Path(path)
        self.recipe_file = self.path / recipe_file
        self.states = checkpoint.StateFolder(self.path / "state")
        self.is_writer = is_writer
        self._kind = kind
        self._flag = flag
        self._free = free

    def check(self, recipe: Any) -> None:
        """Refuses a folder that cannot be written to, or in which another recipe was begun."""
        folder = self.path.absolute()
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not above.is_dir():
            raise UserError(f"{self._flag}={self.path}: {above} is a file; give a folder")
        if self.is_writer and not os.access(above, os.W_OK):
            raise UserError(f"{self._flag}={self.path}: {above} cannot be written to")
        if not self.recipe_file.is_file():
            return
        begun = config.load_recipe(self.recipe_file, self._kind)
        different = config.differences(recipe, begun)
        different = [key for key in different if not key.startswith(self._free)]
        if different:
            raise UserError(
                f"{self.path} was begun with another recipe ({'; '.join(different)}); use the same "
                f"recipe to resume, or another {self._flag} to start again{self._way_on()}"
            )

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
        except OSError as error:
            raise UserError(f"{self.path} cannot be written to ({error.strerror})") from None
        with files.holding(self.path):
            yield
