"""A detector with what it needs while it is trained, and no longer."""

from typing import Any

import keras

from tfdet.detectors.base import Detector, check_adds_terms


class TrainingWrapper(Detector):
    """Trains another detector with a loss, or a step, that is not its own.

    Wrappers can be put around each other. `fit` is called on the outermost, while `detector`, which
    stands in the middle of all of them, is what is measured and kept:

        fit -> Elastic -> inner: SparseGammas -> inner: Distilled -> inner: the detector

    A subclass adds terms to `loss_terms`.

    Args:
        inner: a detector with its variables, or another wrapper.
        added: names of the loss terms that come to those of `inner`.
        name: of the wrapper.
    """

    def __init__(self, inner: Detector, added: tuple[str, ...], name: str):
        check_adds_terms(inner, type(self).__name__)
        names = tuple(term for term in inner.loss_names if term != "l2_loss")
        super().__init__(inner.config, (*names, *added), name=name)
        self.inner = inner
        self.decayed = inner.decayed

    def build(self, input_shape: Any) -> None:
        """Nothing: `inner` is built, and a subclass builds what it adds."""

    @property
    def detector(self) -> Detector:
        """The detector that is trained, without wrappers."""
        return self.inner.detector if isinstance(self.inner, TrainingWrapper) else self.inner

    @property
    def pad_value(self) -> tuple[float, float, float]:
        return self.inner.pad_value

    @property
    def mask_size(self) -> int:
        return self.inner.mask_size

    @property
    def run_variables(self) -> list[keras.Variable]:
        return self.inner.run_variables

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        return self.inner(images, training=training)

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        return self.call(images, training=training)

    def loss_terms(
        self, targets: dict[str, Any], raw: dict[str, Any], training: bool = False
    ) -> dict[str, Any]:
        return self.inner.loss_terms(targets, raw, training)

    def decode(self, raw: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        return self.inner.decode(raw, image_size)


class Untracked:
    """Holds something that Keras shall not find: neither trained, nor saved, nor counted."""

    def __init__(self, value: Any):
        self.value = value
