"""YOLOv7's path aggregation: down from the coarsest level and up again."""

import dataclasses
from typing import Any, NamedTuple

import keras
from keras import ops

from tfdet.backbones.yolov7 import Variant
from tfdet.layers.blocks import BlockSpec, Style, conv, down, elan, rep_conv, sppcspc, wide_elan
from tfdet.layers.composite import Composite
from tfdet.layers.resample import enlarge_nearest
from tfdet.tensors import Tensor

FINEST = 3


class PathAggregation(NamedTuple):
    """The blocks of a neck.

    Attributes:
        coarsest: what the coarsest level goes through first.
        refine: for each finer level, coarse to fine: what the level itself and the enlarged coarser
            one go through, each on its own, and then their concatenation.
        coarsen: for each coarser level, fine to coarse: what halves the finer one, and what its
            concatenation with the level goes through.
        outputs: what each level goes through at the end, fine to coarse.
        auxiliary: the same on the maps of the way down, for the auxiliary heads.
    """

    coarsest: BlockSpec
    refine: tuple[tuple[BlockSpec, BlockSpec], ...]
    coarsen: tuple[tuple[BlockSpec, BlockSpec], ...]
    outputs: tuple[BlockSpec, ...]
    auxiliary: tuple[BlockSpec, ...] = ()


NECKS: dict[str, PathAggregation] = {
    "v7": PathAggregation(
        coarsest=sppcspc(512),
        refine=((conv(256, 1), wide_elan(256, 256)), (conv(128, 1), wide_elan(128, 128))),
        coarsen=((down(128), wide_elan(256, 256)), (down(256), wide_elan(512, 512))),
        outputs=(rep_conv(256), rep_conv(512), rep_conv(1024)),
    ),
    "x": PathAggregation(
        coarsest=sppcspc(640),
        refine=(
            (conv(320, 1), elan(256, 320, convs=6)),
            (conv(160, 1), elan(128, 160, convs=6)),
        ),
        coarsen=(
            (down(160), elan(256, 320, convs=6)),
            (down(320), elan(512, 640, convs=6)),
        ),
        outputs=(conv(320), conv(640), conv(1280)),
    ),
    "w6": PathAggregation(
        coarsest=sppcspc(512),
        refine=(
            (conv(384, 1), wide_elan(384, 384)),
            (conv(256, 1), wide_elan(256, 256)),
            (conv(128, 1), wide_elan(128, 128)),
        ),
        coarsen=(
            (conv(256, strides=2), wide_elan(256, 256)),
            (conv(384, strides=2), wide_elan(384, 384)),
            (conv(512, strides=2), wide_elan(512, 512)),
        ),
        outputs=(conv(256), conv(512), conv(768), conv(1024)),
        auxiliary=(conv(320), conv(640), conv(960), conv(1280)),
    ),
}


@keras.saving.register_keras_serializable(package="tfdet")
class YoloV7Neck(Composite):
    """Levels {"P1": ..., "P5": [B, H/32, W/32, C]} to {"P3": ..., "P5": ...} for the heads.

    With auxiliary maps those are there too, under "aux_P3" and so on. Levels finer than P3 are
    not looked at.

    Args:
        variant: a key of `NECKS`.
        style: of its blocks.
        auxiliary: whether to make the auxiliary maps.
    """

    def __init__(
        self,
        variant: Variant = "v7",
        style: Style | None = None,
        auxiliary: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.variant = variant
        self.style = style = style or Style()
        self.auxiliary = auxiliary
        table = NECKS[variant]
        self.levels = [f"P{FINEST + i}" for i in range(len(table.outputs))]
        finer, coarser = self.levels[-2::-1], self.levels[1:]
        self.coarsest = table.coarsest.make(style, "coarsest")

        def layers(levels: list[str], blocks: list[BlockSpec], job: str) -> dict[str, Any]:
            pairs = zip(levels, blocks, strict=True)
            return {level: block.make(style, f"{level.lower()}_{job}") for level, block in pairs}

        narrow, refine = zip(*table.refine, strict=True)
        halve, coarsen = zip(*table.coarsen, strict=True)
        self.narrow = layers(finer, narrow, "narrow")
        self.lateral = layers(finer, narrow, "lateral")
        self.refine = layers(finer, refine, "refine")
        self.halve = layers(coarser, halve, "halve")
        self.coarsen = layers(coarser, coarsen, "coarsen")
        self.outputs = layers(self.levels, table.outputs, "output")
        self.aux_outputs = layers(self.levels, table.auxiliary, "aux") if auxiliary else {}

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        way_down = self._refined(features, training)
        maps = self._coarsened(way_down, training)
        result = {
            level: layer(maps[level], training=training) for level, layer in self.outputs.items()
        }
        for level, layer in self.aux_outputs.items():
            result[f"aux_{level}"] = layer(way_down[level], training=training)
        return result

    def _refined(self, features: dict[str, Tensor], training: bool | None) -> dict[str, Any]:
        coarsest = self.levels[-1]
        x = self.coarsest(features[coarsest], training=training)
        maps = {coarsest: x}
        for level, refine in self.refine.items():
            lateral = self.lateral[level](features[level], training=training)
            x = enlarge_nearest(self.narrow[level](x, training=training), lateral.shape[1:3])
            x = refine(ops.concatenate([lateral, x], axis=-1), training=training)
            maps[level] = x
        return maps

    def _coarsened(self, maps: dict[str, Tensor], training: bool | None) -> dict[str, Any]:
        x = maps[self.levels[0]]
        result = {self.levels[0]: x}
        for level, coarsen in self.coarsen.items():
            x = self.halve[level](x, training=training)
            x = coarsen(ops.concatenate([x, maps[level]], axis=-1), training=training)
            result[level] = x
        return result

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "variant": self.variant,
            "style": dataclasses.asdict(self.style),
            "auxiliary": self.auxiliary,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "YoloV7Neck":
        return cls(**{**config, "style": Style(**config["style"])})
