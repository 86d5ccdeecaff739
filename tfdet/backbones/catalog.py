"""The backbones of the garden by name, for detectors that take any of them."""

from typing import Any, Literal

from tfdet import records
from tfdet.backbones import efficientnet, mobilenet, resnet, swin
from tfdet.backbones.encoding import Encoding, load_encoding, parse_encoding
from tfdet.backbones.protocol import Backbone
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind


def names() -> list[str]:
    """All names that `make_backbone` takes."""
    return [
        *resnet.STYLES,
        *mobilenet.V2_SCALES,
        *mobilenet.V1_SCALES,
        *efficientnet.SCALES,
        *swin.STYLES,
    ]


def resolve(backbone: str | Encoding) -> str | Encoding:
    """A name as it is; the encoding that stands in a .json file, or in JSON text.

    Configurations hold what this gives, so that they need no file once they are made.
    """
    if isinstance(backbone, Encoding):
        return backbone
    if backbone.lstrip().startswith(("[", "{")):
        return parse_encoding(backbone, "backbone")
    return load_encoding(backbone) if backbone.endswith(".json") else backbone


def encoding_of(backbone: str | Encoding) -> Encoding | None:
    """The encoding of a ResNet, by name or as it is; None of other backbones."""
    return resnet.STYLES.get(backbone) if isinstance(backbone, str) else backbone


def check_pixels(backbone: str | Encoding, pixels: str) -> None:
    """Refuses an EfficientNet-Lite with pixels that no weights of it are for."""
    is_lite = isinstance(backbone, str) and efficientnet.is_lite(backbone)
    if is_lite and pixels != efficientnet.own_pixels(backbone):
        raise UserError(
            f"the backbone {backbone!r} takes its own pixels, (pixel - 127) / 128, got pixels: "
            f"{pixels}; set pixels: lite"
        )


def make_backbone(
    kind: str | Encoding,
    levels: tuple[int, ...],
    batch_norm: Kind,
    frozen_stages: int = 0,
    gradient_checkpointing: bool = False,
    role: Literal["alone", "first", "second"] = "alone",
    **kwargs: Any,
) -> Backbone:
    """A backbone: images [B, H, W, 3], normalised, to {"P3": map, ...}.

    Args:
        kind: one of `names()`, or an encoding.
        levels: which levels to return.
        batch_norm: kind of batch norm; a Swin has none.
        frozen_stages: of a ResNet; the others are trained as a whole.
        gradient_checkpointing: compute each block again for its gradient.
        role: "first" of a cascade also returns what a second one of its kind begins with; "second"
            begins there, if it is a ResNet or a Swin. The others always begin with images.
        **kwargs: `name` and `dtype` of the layer.
    """
    kwargs |= {"levels": levels, "batch_norm": batch_norm}
    kwargs["gradient_checkpointing"] = gradient_checkpointing
    continues = {"continues": True} if role == "second" else {}
    if encoding_of(kind) is not None:
        return resnet.ResNet(kind, frozen_stages=frozen_stages, **continues, **kwargs)
    if frozen_stages:
        raise UserError(f"frozen_stages is for ResNets; leave it 0 for the backbone {kind!r}")
    if kind in mobilenet.V2_SCALES:
        return mobilenet.MobileNetV2(kind, **kwargs)
    if kind in mobilenet.V1_SCALES:
        return mobilenet.MobileNetV1(kind, **kwargs)
    if kind in efficientnet.SCALES:
        return efficientnet.EfficientNet(kind, **kwargs)
    if kind in swin.STYLES:
        del kwargs["batch_norm"]
        return swin.Swin(kind, gives_tokens=role == "first", **continues, **kwargs)
    known = [name for name in names() if "test" not in name]
    raise UserError(f"unknown backbone {kind!r}; {records.nearest(kind, known)}")
