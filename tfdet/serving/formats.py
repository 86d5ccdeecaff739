"""The forms that a detector is exported in, and what each needs.

A form has a module with two functions:

- `write(piece, folder, precision, samples)`: a piece of a detector to files of the form;
- `load(piece, folder, precision)`: those files to a function of NumPy arrays by name.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from tfdet.errors import UserError

# NumPy arrays by name to others by name.
Runner = Callable[[dict[str, Any]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """A file of an export: a function that takes and returns tensors by name.

    Attributes:
        name: of its file, without the ending.
        function: has a fixed signature of named tensors, and returns a dict.
        is_quantized: whether its multiplications may be done in int8.
    """

    name: str
    function: Any
    is_quantized: bool = True


@dataclasses.dataclass(frozen=True)
class Form:
    """A form other than the SavedModel.

    Attributes:
        name: as `--format` takes it, and also that of the extra to install.
        module: has `write` and `load`, see above.
        reads: packages that run it.
        writes: packages that write it, by precision; "" is for all of them.
        precisions: of its numbers; the first is the usual one.
        is_fixed: takes one image at a time, fitted into the canvas; others take a batch of images
            of any size.
        has_nesting: may have a condition within another. OpenVINO gives wrong values for those, the
            first times that they run with batches of a size.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    writes: dict[str, tuple[str, ...]]
    precisions: tuple[str, ...]
    is_fixed: bool
    has_nesting: bool = True

    def load(self, name: str, folder: Any, precision: str) -> Runner:
        """What runs the piece of this name."""
        self._require(self.reads, "running")
        return self._functions().load(name, folder, precision)

    def write(
        self, piece: Piece, folder: Any, precision: str, samples: Sequence[dict[str, Any]]
    ) -> None:
        """Writes a piece.

        Args:
            piece: what to write.
            folder: that its files go to.
            precision: one of `precisions`.
            samples: inputs of the piece, to choose int8 ranges from; empty where not wanted.
        """
        try:
            self._functions().write(piece, folder, precision, samples)
        except (UserError, OSError):
            raise
        except Exception as error:  # each converter has its own
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0][:_REASON]
            raise UserError(
                f"{self.name} cannot express this detector ({reason}); take another format"
            ) from error

    def check(self, precision: str) -> None:
        """Refuses what cannot be written, or not without a package that is missing."""
        if precision not in self.precisions:
            raise UserError(
                f"{self.name} is not written in {precision}; choose from "
                f"{', '.join(self.precisions)}"
            )
        self._require(self.packages(precision), "writing")

    def packages(self, precision: str) -> tuple[str, ...]:
        """All that is needed to write it and to run it."""
        return (*self.reads, *self.writes.get("", ()), *self.writes.get(precision, ()))

    def is_installed(self, precision: str) -> bool:
        return not any(_is_missing(module) for module in self.packages(precision))

    def _require(self, modules: Sequence[str], verb: str) -> None:
        missing = [module for module in modules if _is_missing(module)]
        if missing:
            raise UserError(
                f"{verb} {self.name} needs {' and '.join(missing)}; type "
                f"`pip install 'tfdet[{self.name}]'`"
            )

    def _functions(self) -> ModuleType:
        return importlib.import_module(self.module)


def _is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


SAVED_MODEL = "saved_model"
_REASON = 200  # characters of a converter's own words
_FORMS = (
    Form(
        name="litert",
        module="tfdet.serving.litert_form",
        reads=("ai_edge_litert",),
        writes={},
        precisions=("float32", "float16", "int8"),
        is_fixed=True,
    ),
    Form(
        name="onnx",
        module="tfdet.serving.onnx_form",
        reads=("onnxruntime",),
        writes={"": ("tf2onnx",)},
        precisions=("float32",),
        is_fixed=False,
    ),
    Form(
        name="openvino",
        module="tfdet.serving.openvino_form",
        reads=("openvino",),
        writes={"int8": ("nncf",)},
        precisions=("float32", "bfloat16", "int8"),
        is_fixed=False,
        has_nesting=False,
    ),
)
FORMS = {form.name: form for form in _FORMS}
NAMES = (SAVED_MODEL, *FORMS)


def form(name: str) -> Form:
    """The form of this name, other than the SavedModel."""
    if name not in FORMS:
        raise UserError(f"expected a format of {', '.join(NAMES)}, got {name!r}")
    return FORMS[name]
