"""What became of each tensor of a weights file, and of each variable of the model."""

import dataclasses
from typing import Any

_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Report:
    """An import of weights.

    Attributes:
        path: of the file.
        origin: where it is from, for people: "torchvision, PyTorch (zip)".
        settings: keys of the model's configuration that the weights asked for.
        changed: those of them that the model does not have by itself, dotted.
        used: (name of the tensor, path of the variable) of what was copied, in the file's order.
        unused: names of tensors that are deliberately not used: counters, classifiers.
        new: paths of variables that keep the values that they began with.
        per_class: of the new ones those whose size counts classes, and differs.
        classes: (classes of the file or None, of the model).
        is_backbone: whether the file has a backbone and no detector.
    """

    path: str
    origin: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    changed: dict[str, Any] = dataclasses.field(default_factory=dict)
    used: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    per_class: tuple[str, ...] = ()
    classes: tuple[int | None, int] = (None, 0)
    is_backbone: bool = False

    def sentence(self, begin: str = "took") -> str:
        """What was taken and what is new, in one line."""
        count = len({path for _, path in self.used})
        amount = str(count) if self.new else f"all {count}"
        text = f"{begin} {amount} weights of {self.path} ({self.origin})"
        if self.changed:
            keys = (f"{key}={_short(value)}" for key, value in self.changed.items())
            text += f", which set {', '.join(keys)}"
        others = [path for path in self.new if path not in self.per_class]
        if self.per_class:
            theirs, ours = self.classes
            of = f"of {theirs} classes" if theirs else "of other classes"
            text += (
                f"; it is {of} and the model of {ours}, so that the class outputs are new: "
                f"{_listed(self.per_class)}"
            )
        if others:
            text += f"; {len(others)} {'more ' if self.per_class else ''}are new: {_listed(others)}"
        return text

    def to_text(self) -> str:
        """All of it: a line for each tensor and each new variable."""
        lines = [self.sentence(), ""]
        lines += [f"setting  {key}: {value}" for key, value in self.settings.items()]
        lines += [f"used     {name} -> {path}" for name, path in self.used]
        lines += [f"unused   {name}" for name in self.unused]
        lines += [f"new      {path}" for path in self.new]
        return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    text = str(value)  # an encoding is text of some thousand letters
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(paths: tuple[str, ...] | list[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
