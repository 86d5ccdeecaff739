"""Parameters and operations of a detector, counted from its layers and the shapes they see."""

import concurrent.futures
import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras

from tfdet import registry
from tfdet.errors import UserError
from tfdet.ops.counting import Operations, count_layers


class Part(NamedTuple):
    """Counts of one part of a detector; the fields are those of `Profile`."""

    parameters: int
    trainable: int
    parameters_total: int
    macs: int
    mmdet_flops: int


@dataclasses.dataclass(frozen=True)
class Profile:
    """Counts of a detector for one image.

    Attributes:
        name: of the model.
        image_size: (height, width) of the image.
        parameters: numbers that training can change, also where this model has them frozen; neither
            moving statistics, nor batch norms that are constants (`Detector.has_constant_norms`).
        trainable: the parameters that are trained as the model is.
        parameters_total: all numbers, with moving statistics and constants.
        macs: multiply-adds of convolutions and dense layers, without biases, on the most expensive
            path that an image can take (`Detector.full_path`).
        mmdet_flops: what mmdetection's `get_flops` prints, on the same path: the multiply-adds, one
            operation per biased output of a convolution, two per output of a batch norm, one per
            output of a ReLU layer and one per input of a max-pooling layer.
        parts: the same counts for each part of the model, in the order of the data. The work of
            all parts is more than that of the whole where no path leads through all of them.
        routes: multiply-adds of each path that an image can take ("early", "late" of a cascade), or
            of some that have a name where there are too many ("floor", "cheapest", "all_open" of a
            CADDet, without its head and routers). Empty where there is one path.
    """

    name: str
    image_size: tuple[int, int]
    parameters: int
    trainable: int
    parameters_total: int
    macs: int
    mmdet_flops: int
    parts: dict[str, Part]
    routes: dict[str, int] = dataclasses.field(default_factory=dict)

    def cost(self, share: float) -> float:
        """Mean multiply-adds per image where this share of the images takes the late path."""
        return self.routes["early"] + share * (self.routes["late"] - self.routes["early"])

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain dicts, lists and numbers, ready for JSON."""
        parts = {name: part._asdict() for name, part in self.parts.items()}
        return {**vars(self), "image_size": list(self.image_size), "parts": parts}

    def to_text(self) -> str:
        """The profile as a table, one row per part."""
        height, width = self.image_size
        rows = [*self.parts.items(), ("total", self)]
        first = max(12, *(len(name) + 1 for name in self.parts))
        lines = [
            f"{self.name}, one image of {height}x{width}",
            f"{'part':<{first}}{'parameters':>14}{'trainable':>14}{'all numbers':>14}"
            f"{'MAdds':>12}{'mmdet FLOPs':>14}",
        ]
        for name, part in rows:
            counts = f"{part.parameters:>14,}{part.trainable:>14,}{part.parameters_total:>14,}"
            work = f"{part.macs / 1e9:>11.3f}G{part.mmdet_flops / 1e9:>13.3f}G"
            lines.append(f"{name:<{first}}{counts}{work}")
        for name, macs in self.routes.items():
            lines.append(f"{'path: ' + name:<{first + 42}}{macs / 1e9:>11.3f}G")
        return "\n".join(lines)


def profile(model_or_name: Any, image_size: tuple[int, int] | None = None) -> Profile:
    """Counts the parameters and operations of a detector.

    Example:
        print(tfdet.profile("efficientdet-d0").to_text())

    Args:
        model_or_name: a built detector, or the name of a registered one. By name no weights are
            made, so that even the largest model takes two seconds and little memory.
        image_size: (height, width) of the image; None for the model's own.
    """
    if isinstance(model_or_name, str):
        return profile_config(model_or_name, registry.config(model_or_name), image_size)
    model = model_or_name
    if not hasattr(model, "paths"):
        raise UserError(f"expected a detector or the name of one, got {type(model).__name__}")
    size = tuple(image_size or model.image_size)
    work = count_layers(model, size, model.compute_output_spec)
    constants = _constants(model)
    total = _part([model], work, constants)
    parts = {name: _part(layers, work, constants) for name, layers in model.parts.items()}
    rest = Part(*(t - sum(p) for t, *p in zip(total, *parts.values(), strict=True)))
    if rest != Part(0, 0, 0, 0, 0):
        parts["other"] = rest
    routes = {name: path_macs(model, path, size) for name, path in model.paths.items()}
    full = path_operations(model, model.full_path, size) if routes else Operations(*total[-2:])
    return Profile(model.name, size, *total[:-2], *full, parts, routes)


def path_macs(
    model: Any, path: Callable[[Any], Any], image_size: tuple[int, int] | None = None
) -> int:
    """Multiply-adds of one of a detector's `paths` for one image."""
    return path_operations(model, path, image_size).macs


def path_operations(
    model: Any, path: Callable[[Any], Any], image_size: tuple[int, int] | None = None
) -> Operations:
    """As `path_macs`, in both conventions."""
    work = count_layers(model, tuple(image_size or model.image_size), path)
    return sum(work.values(), Operations())


def profile_config(name: str, config: Any, image_size: tuple[int, int] | None = None) -> Profile:
    """As `profile`, for a registered model with a configuration of its own."""
    return profile_unbuilt(
        lambda: registry.detector_class(name).from_record(config, name), image_size
    )


def profile_unbuilt(make: Callable[[], Any], image_size: tuple[int, int] | None = None) -> Profile:
    """As `profile`, for the detector that `make` returns; its variables are not made."""

    def run() -> Profile:
        with keras.StatelessScope(initialize_variables=False):
            detector = make()
            detector.build_variables()
            return profile(detector, image_size)

    # Keras keeps a list of variables without values, to give them values later. The list belongs to
    # the thread: that of a thread of our own is forgotten with it.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(run).result()


def _constants(model: keras.Model) -> set[int]:
    """Ids of the batch norms that are constants, no parameters."""
    return {
        id(layer)
        for detector in model._flatten_layers()
        if getattr(detector, "has_constant_norms", False)
        for layer in detector._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    }


def _part(
    layers: list[keras.layers.Layer], work: dict[int, Operations], constants: set[int]
) -> Part:
    inner = [x for layer in layers for x in layer._flatten_layers()]
    done = sum((work.get(id(x), Operations()) for x in inner), Operations())
    # A layer keeps this list whether it is frozen or not.
    learned = {id(v): v for x in inner if id(x) not in constants for v in x._trainable_variables}
    return Part(
        parameters=_size(learned.values()),
        trainable=sum(_size(x.trainable_weights) for x in layers),
        parameters_total=sum(_size(x.weights) for x in layers),
        macs=done.macs,
        mmdet_flops=done.mmdet_flops,
    )


def _size(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(v.shape) for v in variables)
