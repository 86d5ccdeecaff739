"""The user's cache folder: downloaded weights and indexes of data sets are kept in it."""

import os
import pathlib

from tfdet.errors import UserError

VARIABLE = "TFDET_CACHE"


def path() -> pathlib.Path:
    """$TFDET_CACHE, else tfdet in $XDG_CACHE_HOME or ~/.cache; it need not be there.

    Raises:
        UserError: somebody without a home has named none.
    """
    try:
        if chosen := os.environ.get(VARIABLE):
            return pathlib.Path(chosen).expanduser()
        home = os.environ.get("XDG_CACHE_HOME")
        return (pathlib.Path(home) if home else pathlib.Path.home() / ".cache") / "tfdet"
    except RuntimeError:
        raise UserError(f"there is no home folder to cache files in; set {VARIABLE}") from None
