"""What detectors share that are a normalization, a backbone, and something that takes its maps."""

from typing import Any

import keras

from tfdet.detectors.base import Detector


class TappedDetector(Detector):
    """`predictions(taps(images))`; subclasses set `normalization` and `backbone`.

    It can be joined with another detector if the backbone takes `added` maps, of its
    `joint_channels`, and tells the `channels` of its levels.
    """

    normalization: keras.layers.Layer
    backbone: keras.layers.Layer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.call(keras.KerasTensor(input_shape))

    @property
    def pad_value(self) -> tuple[float, float, float]:
        return self.normalization.mean

    @property
    def tap_channels(self) -> dict[str, int]:
        self._check_joinable()
        channels = self.backbone.channels
        return {f"P{level}": channels[f"P{level}"] for level in self.backbone.levels}

    @property
    def joint_channels(self) -> dict[str, int]:
        self._check_joinable()
        return self.backbone.joint_channels

    def _check_joinable(self) -> None:
        if not hasattr(self.backbone, "joint_channels"):
            raise self._no_taps()

    def taps(
        self,
        images: Any,
        training: bool | None = None,
        added: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        options = {"added": added} if added else {}
        return self.backbone(self.normalization(images), training=training, **options)

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        size = tuple(images.shape[1:3])
        return self.predictions(self.taps(images, training), training, size)

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        return self.call(images, training=training)
