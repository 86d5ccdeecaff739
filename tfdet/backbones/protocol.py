"""What a detector needs of a backbone, so that any Keras layer can be one."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import keras

from tfdet.errors import UserError
from tfdet.tensors import Tensor

_LEVEL = re.compile(r"P[1-9][0-9]*")


@runtime_checkable
class Backbone(Protocol):
    """A Keras layer from images to maps, one or more of them a level of a pyramid.

    `backbone(images, training=...)` takes images [B, H, W, 3] that the detector has normalised, and
    returns a dict. "P3" is the map of level 3, [B, H/8, W/8, C]: level l has the sides of the image
    divided by 2**l, rounded up. Other names than levels are side outputs: detectors keep them in
    `taps` and make no predictions of them.

    One-stage detectors need P3, P4 and P5, two-stage detectors P2 too (`needed_levels` of a
    detector). `docs/extending.md` has an example.

    Attributes:
        channels: width of each level that it returns, {"P3": 64, "P4": 128, "P5": 256}. A
            functional `keras.Model` whose output is such a dict of maps may leave it out.
    """

    @property
    def channels(self) -> Mapping[str, int]: ...

    def __call__(self, images: Tensor, training: bool | None = None) -> dict[str, Any]: ...


@runtime_checkable
class JoinableBackbone(Backbone, Protocol):
    """A backbone that can be the second one of a cascade (`detectors.dynamicdet`).

    `backbone(images, training=..., added={"P4": map, ...})` adds each of these maps where its level
    begins, in the size of the level, unless the backbone documents another place.

    Attributes:
        joint_channels: width of the map that can be added at each level, {"P3": 32, ...}.
    """

    @property
    def joint_channels(self) -> Mapping[str, int]: ...


@runtime_checkable
class ContinuingBackbone(JoinableBackbone, Protocol):
    """A joinable backbone that takes a map of the first one in the place of images.

    Attributes:
        begins_with: name of that output of the first backbone, "P2"; "" where it takes images.
    """

    @property
    def begins_with(self) -> str: ...


def is_level(name: str) -> bool:
    """Whether an output of a backbone is a level, "P3", and not a side output."""
    return _LEVEL.fullmatch(name) is not None


def level_channels(backbone: keras.layers.Layer) -> dict[str, int]:
    """`channels` of a backbone, finest level first; a `UserError` if it is no `Backbone`."""
    if not isinstance(backbone, keras.layers.Layer):
        raise UserError(f"backbone must be a Keras layer, got {_kind(backbone)}: {backbone!r}")
    channels = backbone.channels if isinstance(backbone, Backbone) else _output_channels(backbone)
    is_right = isinstance(channels, Mapping) and all(
        isinstance(name, str) and is_level(name) and isinstance(width, int) and width > 0
        for name, width in channels.items()
    )
    if not channels or not is_right:
        given = "has none" if channels is None else f"has {channels!r}"
        raise UserError(
            "backbone must have an attribute `channels`, the width of each level that it returns, "
            f'such as {{"P3": 64, "P4": 128, "P5": 256}}; {_kind(backbone)} {given}'
        )
    return {name: channels[name] for name in sorted(channels, key=_number)}


def check_levels(channels: Mapping[str, int], needed: Iterable[str], detector: str) -> None:
    """Refuses a backbone that lacks a level.

    Args:
        channels: as `level_channels` returns them.
        needed: names of the levels that must be there.
        detector: what the detector is called in the message.
    """
    needed = tuple(needed)
    missing = [name for name in needed if name not in channels]
    if missing:
        level = missing[0]
        raise UserError(
            f"{detector} needs the levels {', '.join(needed)} of its backbone, this one has "
            f"{', '.join(channels)}; return {', '.join(missing)} too ({level} has 1/"
            f"{2 ** _number(level)} of the image's sides) and list {_them(missing)} in `channels`"
        )


def check_maps(
    maps: Tensor,
    channels: Mapping[str, int | None],
    image_size: tuple[int | None, int | None],
    part: str,
) -> None:
    """Refuses outputs that are not the levels that were announced.

    Args:
        maps: what the part returns, tensors by name.
        channels: width of each level that must be among them; None is any.
        image_size: (height, width) of the images; None is any.
        part: "backbone" or "neck", for the message.
    """
    if not isinstance(maps, Mapping):
        raise UserError(
            f'{part} must return a dict of maps {{"P3": [B, H, W, C], ...}}, got {_kind(maps)}'
        )
    for name, width in channels.items():
        if name not in maps:
            raise UserError(
                f"{part} must return {', '.join(channels)}, it returned {', '.join(maps) or 'none'}"
            )
        sides = (side if side is None else -(-side // 2 ** _number(name)) for side in image_size)
        expected, shape = (*sides, width), tuple(maps[name].shape)
        is_right = len(shape) == 4 and all(
            None in pair or pair[0] == pair[1] for pair in zip(expected, shape[1:], strict=True)
        )
        if not is_right:
            raise UserError(
                f"{name} of the {part} must have shape {_shape((None, *expected))} for images of "
                f"{image_size[0]}x{image_size[1]}, got {_shape(shape)}; sides are divided by "
                f"{2 ** _number(name)} and rounded up"
            )


def _output_channels(backbone: keras.layers.Layer) -> dict[str, int] | None:
    """Widths of the levels of a functional model, which reports its outputs; None of others."""
    # Reading `output` of a layer that was never called is an AttributeError.
    outputs = getattr(backbone, "output", None) if isinstance(backbone, keras.Model) else None
    if not isinstance(outputs, dict):
        return None
    return {name: x.shape[-1] for name, x in outputs.items() if is_level(name)}


def _number(level: str) -> int:
    return int(level[1:])


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _kind(value: Any) -> str:
    return type(value).__name__


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if side is None else str(side) for side in shape)}]"
