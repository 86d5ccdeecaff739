"""What all commands import; imported once, by the process that others are forked from."""

from tfdet import quiet

with quiet.no_stderr():
    import tensorflow  # noqa: F401

from tfdet.cli import data, eval, export, infer, train  # noqa: F401
from tfdet.data import check, convert  # noqa: F401
from tfdet.serving import driver  # noqa: F401
from tfdet.serving import export as exporting  # noqa: F401
from tfdet.training import trained, trainer  # noqa: F401
from tfdet.visualization import draw  # noqa: F401
