"""MobileNet (v1) without its classifier: https://arxiv.org/abs/1704.04861."""

from typing import Any

import keras

from tfdet.layers.batch_norm import Kind
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.separable_unit import SeparableUnit, grid_norm
from tfdet.layers.symmetric import SymmetricConv2D

# Filters and stride of each separable convolution: the paper's table 1.
_UNITS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
_STEM_FILTERS = 32
# Width multipliers. The smallest is ours, for unit tests.
SCALES = {"mnv1": 1.0, "mnv1-test": 0.125}


@keras.saving.register_keras_serializable(package="tfdet")
class MobileNetV1(Composite):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    A level is the last map before the next stride: 128, 256, 512 and 1024 channels from P2 to P5
    at full width. Sizes are rounded up; padding is symmetric.

    Example:
        features = MobileNetV1()(images)  # {"P3": ..., "P4": ..., "P5": ...}

    Args:
        scale: a key of `SCALES`.
        levels: which levels to return, of 1 to 5.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute each unit again for its gradient.
    """

    def __init__(
        self,
        scale: str = "mnv1",
        levels: tuple[int, ...] = (3, 4, 5),
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.levels = tuple(levels)
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing
        width = SCALES[scale]
        self.stem_conv = SymmetricConv2D(
            int(_STEM_FILTERS * width),
            3,
            strides=2,
            use_bias=False,
            kernel_initializer=FAN_OUT_NORMAL,
            name="stem_conv",
        )
        self.stem_bn = grid_norm(batch_norm, "stem_bn")
        self.units = [
            SeparableUnit(
                int(filters * width),
                stride,
                inner_norm=True,
                batch_norm=batch_norm,
                name=f"unit_{i}",
            )
            for i, (filters, stride) in enumerate(_UNITS)
        ]

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        before = zip(self.units, self.units[1:], strict=False)
        widths = [unit.filters for unit, after in before if after.strides > 1]
        return {f"P{level}": [*widths, self.units[-1].filters][level - 1] for level in self.levels}

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        x = keras.activations.relu(self.stem_bn(self.stem_conv(images), training=training))
        reductions = []
        for unit in self.units:
            if unit.strides > 1:
                reductions.append(x)
            x = self._run(unit, x, training)
        reductions.append(x)
        return {f"P{level}": reductions[level - 1] for level in self.levels}

    def _run(self, unit: SeparableUnit, x: Any, training: bool | None) -> Any:
        if self.gradient_checkpointing and training:
            return checkpointed(lambda x: unit(x, training=training), x)
        return unit(x, training=training)

    def get_config(self) -> dict[str, Any]:
        names = ("scale", "levels", "batch_norm", "gradient_checkpointing")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
