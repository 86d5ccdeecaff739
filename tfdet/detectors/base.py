"""What every detector of the garden has in common."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import keras
from keras import ops

from tfdet import records
from tfdet.detectors import batch_check, prediction_inputs
from tfdet.detectors.detector_config import DetectorConfig
from tfdet.detectors.positives import Positives
from tfdet.errors import UserError
from tfdet.layers.dense_composition import DenseComposition
from tfdet.layers.merging import copy_merged
from tfdet.losses import replicas
from tfdet.ops import boxes as box_ops
from tfdet.ops import masks as mask_ops
from tfdet.ops.as_written import as_written
from tfdet.tensors import Tensor

if TYPE_CHECKING:
    from tfdet.backbones.grid import SupernetConfig


class Detector(keras.Model):
    """A detector: images to raw predictions, raw predictions to a loss or to detections.

    Images are RGB, 0–255, uint8 or float, [B, H, W, 3]; normalisation is the model's own work.
    A subclass composes `backbone -> neck -> head` in `call`, and has `loss_terms` and `decode`.
    Training is `compile(optimizer)` and `fit`, which minimises what `compute_loss` returns, on
    batches `(images, targets)` with

    - `targets["boxes"]`: float32 [B, M, 4], xyxy in pixels of the batch image;
    - `targets["labels"]`: int32 [B, M], contiguous from 0, -1 where a row is padding.

    `predict` and `detect` return `{"boxes": float32 [B, N, 4], "scores": float32 [B, N],
    "labels": int32 [B, N], "count": int32 [B]}`: boxes xyxy in pixels of the given images, best
    first; rows from `count` on are padding (box 0, score 0, label -1).

    Args:
        config: what to build; it is stored with the model, to build it again.
        loss_names: names of the terms that `loss_terms` returns, in the order of display.
    """

    config_class: ClassVar[type]

    # Ends of the names of the variables in the L2 loss. Usually kernels only: neither biases, nor
    # norms, nor fusion weights are pulled towards zero.
    decayed: tuple[str, ...] = ("kernel",)

    # Expressions for the paths of trained variables that no gradient reaches, by the published
    # design. All others are expected to move when the detector is trained.
    unreached: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: DetectorConfig,
        loss_names: tuple[str, ...],
        *,
        name: str | None = None,
        **kwargs: Any,
    ):
        # The module of "module:name" goes: TensorFlow's scopes have no colons.
        super().__init__(name=name and name.rpartition(":")[2], **kwargs)
        config.check_classes()
        self.config: Any = config  # of `config_class`
        self.loss_names = (*loss_names, "l2_loss") if config.weight_decay else loss_names
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in self.loss_names]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the canvas that images are fitted into."""
        return self.config.image_size

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name per label; "class 7" where the model was made without names."""
        names = self.config.class_names
        return names or tuple(f"class {i}" for i in range(self.num_classes))

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The id that the data set uses for each label; the label itself where unknown."""
        return self.config.class_ids or tuple(range(self.num_classes))

    @property
    def run_variables(self) -> list[keras.Variable]:
        """Variables of a training run that are neither weights nor metrics.

        They belong to the state that a killed run resumes from, and not to the trained model.
        """
        return []

    @property
    def max_detections(self) -> int:
        """Rows of the detections of an image."""
        return self.config.nms.max_detections

    @property
    def mask_size(self) -> int:
        """Side of the masks that training targets must have; 0 where none are wanted."""
        return 0

    @property
    def found_mask_size(self) -> int:
        """Side of the masks of detections; 0 where they have none."""
        return 0

    @property
    def pad_value(self) -> tuple[float, float, float]:
        """The colour that normalisation maps to 0; images are padded with it."""
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        """The layers behind each part that `tfdet.profile` counts apart."""
        return {layer.name: [layer] for layer in self.layers}

    @property
    def paths(self) -> dict[str, Callable[[Any], Any]]:
        """What is computed for an image, by the path it takes: functions of images [B, H, W, 3].

        From the least expensive to the most. Empty where all images are treated alike.
        `tfdet.profile` counts each path.
        """
        return {}

    def full_path(self, images: Tensor) -> Any:
        """All that an image can need, and no more: what `tfdet.profile` counts as its cost."""
        return self.compute_output_spec(images)

    @property
    def has_constant_norms(self) -> bool:
        """Whether batch norms are frozen, and constants in the published code, no parameters."""
        return False

    @property
    def is_dynamic(self) -> bool:
        """Whether the cost of an image can be chosen, see `detectors.dynamic.Dynamic`."""
        return False

    @property
    def route_map(self) -> "SupernetConfig | None":
        """Of a detector whose images take routes through a grid, what that looks like."""
        return None

    def build_variables(self) -> None:
        """Creates all variables without running the network; subclasses call it when composed."""
        self.build((1, *self.image_size, 3))

    @property
    def tap_channels(self) -> dict[str, int]:
        """Channels of the levels that `taps` returns, {"P1": 64, ...}."""
        raise self._no_taps()

    @property
    def joint_channels(self) -> dict[str, int]:
        """Channels where `taps` adds maps to each level, {"P1": 64, ...}."""
        raise self._no_taps()

    def taps(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Features of the backbone by level, {"P1": [B, H/2, W/2, C_1], ...}, finest first.

        A detector that has them composes `call` as `predictions(taps(images))`. Other names than
        levels are for `taps_after` alone.

        Args:
            images: as `call` takes them.
            training: as in `call`.
            added: maps by level, of `joint_channels`; each is summed in where its level begins,
                onto the output of the layer that halves the map, unless the backbone has another.
        """
        raise self._no_taps()

    def taps_after(
        self,
        images: Tensor,
        first: dict[str, Tensor],
        added: dict[str, Tensor],
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        """As `taps`, of the second detector of a cascade.

        Args:
            images, added, training: as in `taps`.
            first: the first detector's taps, of which `added` was made.
        """
        return self.taps(images, training=training, added=added)

    def make_fusion(self, name: str) -> keras.layers.Layer:
        """A new layer from another backbone's levels to the `added` maps of this detector."""
        return DenseComposition(self.joint_channels, name=name)

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        """What neck and head make of the backbone's features: the raw predictions.

        Args:
            taps: as `taps` returns them.
            training: as in `call`.
            image_size: (height, width) of the images, which maps do not tell; the model's own where
                not given.
        """
        raise self._no_taps()

    def _no_taps(self) -> UserError:
        return UserError(
            f"{type(self).__name__} does not give its backbone's features, so that it cannot be "
            "joined with another detector; use one with `taps`"
        )

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        """Weighted loss terms, float32 scalars by name; `compute_loss` adds them up.

        Under a distribution strategy each replica returns its own share: the shares of all replicas
        add up to the term of the global batch.

        Args:
            targets: of the batch.
            raw: what `call` returned.
            training: True in a step of `fit`, in which a loss that remembers what it was trained on
                may do so.
        """
        raise NotImplementedError

    @property
    def steps_done(self) -> Any:
        """Steps of the optimizer that trains this detector, int32 []; 0 where none does.

        In `compute_loss` of a detector that has this one as a part, these are the steps of that.
        """
        optimizer = getattr(_fitting.detector or self, "optimizer", None)
        return ops.cast(0 if optimizer is None else optimizer.iterations, "int32")

    def losses_per_image(self, targets: dict[str, Tensor], raw: dict[str, Tensor]) -> Tensor:
        """The loss of each image as if it were alone in its batch, float32 [B].

        The sum of its `loss_terms`. A subclass whose loss has a form for single images returns it.
        """

        return each_alone(self.loss_terms, targets, raw)

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives | None:
        """Which predictions learn which objects; None where that depends on what is predicted.

        Args:
            boxes: [B, M, 4] float32 xyxy in pixels of the network's input.
            labels: [B, M] int32, -1 = padding.
        """
        return None

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Raw predictions to detections in pixels of the network's input."""
        raise NotImplementedError

    def inference_form(self) -> "Detector":
        """A new detector, without variables, as this one runs best in inference; itself if it is.

        Its layers are merged as `layers.merging.copy_merged` understands it.
        """
        return self

    def for_inference(self) -> "Detector":
        """A detector with the same detections that costs less; itself where there is none."""
        form = self.inference_form()
        if form is not self:
            form.build_variables()
            copy_merged(self, form)
        return form

    @property
    def halves(self) -> tuple[Callable[[Any], Any], Callable[[Any], dict[str, Tensor]]]:
        """Two functions that follow each other: what int8 may compute, and what needs floats.

        The first takes a canvas [B, *image_size, 3], the second what the first returns, to
        detections in pixels of the canvas.
        """
        return (
            lambda canvas: self(canvas, training=False),
            lambda raw: self.decode(raw, self.image_size),
        )

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """What `fit` minimises and `evaluate` reports: the sum of the loss terms.

        Each term is also a metric of its own. A subclass may override this, with or without the sum
        that it returns here; terms are shown as long as this is called.

        Args:
            x: images [B, H, W, 3].
            y: the targets.
            y_pred: what `call` returned.
            sample_weight: has no meaning for detectors.
            training: True in a step of `fit`.
        """
        with _within(detector=_fitting.detector or self):
            terms = dict(self.loss_terms(y, y_pred, training))
            if self.config.weight_decay:
                terms["l2_loss"] = self._l2_loss()
        count = ops.cast(ops.shape(x)[0], "float32")
        for tracker in self.loss_trackers:
            _track(tracker, replicas.share_to_total(terms[tracker.name]), count)
        return ops.sum(ops.stack(list(terms.values())))

    def _decayed_values(self) -> dict[int, Any]:
        """What the variables in the L2 loss are now, float32, by their identity."""
        variables = [v for v in self.trainable_variables if v.name.endswith(self.decayed)]
        return {id(v): ops.cast(v, "float32") for v in variables}

    def _l2_loss(self) -> Tensor:
        if _fitting.detector is self and _fitting.l2_loss is not None:
            return _fitting.l2_loss
        return self._l2_loss_of(self._decayed_values())

    def _l2_loss_of(self, decayed: dict[int, Tensor]) -> Any:
        halves = [_half_square(values) for values in decayed.values()]
        total = ops.sum(ops.stack(halves)) if halves else 0.0
        return replicas.total_to_share(self.config.weight_decay * total)

    def detect(self, images: Tensor, **options: Any) -> dict[str, Tensor]:
        """Detections in pixels of `images` [B, H, W, 3], which may have any size.

        `options` go to `detect_fitted`.
        """
        from tfdet.ops.letterbox import letterbox

        batch_check.warn_of_fractions(images)
        images = batch_check.as_images(images)
        canvas, scale = letterbox(images, self.image_size, self.pad_value)
        return to_original(self.detect_fitted(canvas, **options), scale, ops.shape(images)[1:3])

    def detect_fitted(self, canvas: Tensor) -> dict[str, Tensor]:
        """Detections in pixels of `canvas`, float [B, *image_size, 3]; what is served."""
        return self.decode(self(canvas, training=False), self.image_size)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, on batches as the class describes them."""
        self._refuse_other_losses()
        batch_check.warn_of_fractions(x)
        with batch_check.telling():
            batch_check.check_arrays(y, self.num_classes)
            return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's: the losses. `tfdet.evaluate` measures AP."""
        with batch_check.telling():
            return super().evaluate(x, y, *args, **kwargs)

    def _refuse_other_losses(self) -> None:
        # Not in `compile`: of a class with its own, Keras does not compile what it loads.
        given = getattr(getattr(self, "_compile_config", None), "config", {})
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if given.get(name):
                raise UserError(
                    f"compile was given {name}, but a detector has its own loss and terms of it. "
                    "Override compute_loss to change it; tfdet.evaluate measures AP"
                )

    def _checked(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """What Keras gives to a step, of which the last is the batch."""
        step = batch_check.checked_step(args[-1], self.image_size, self.num_classes, self.mask_size)
        return (*args[:-1], step)

    def train_step(self, *args: Any) -> Any:
        args = self._checked(args)
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*args)
        return replicas.as_reducible(as_written(self._tensorflow_step)(*args))

    def _tensorflow_step(self, data: Any) -> dict[str, Any]:
        """Keras's step, but for the gradient of the L2 loss, which is written out.

        A kernel that all levels share has a gradient from each, and TensorFlow adds all that meet
        in one AddN, which begins with any whose memory it can reuse. With convolutions' gradients
        alone that is always the same one; an elementwise one among them, as that of the L2 loss,
        is chosen or not as the threads happen to run, and equal runs then end with other bits.

        So `compute_loss` gets the L2 loss as a number that the tape does not look behind: the tape
        says how much the loss grows with it (once, unless somebody overrides `compute_loss`), and
        `_with_decay` how much it grows with each variable.
        """
        import tensorflow as tf

        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        variables = self.trainable_variables
        decayed = self._decayed_values() if self.config.weight_decay else {}
        l2_loss = ops.convert_to_tensor(self._l2_loss_of(decayed))
        with tf.GradientTape() as tape, _within(detector=self, l2_loss=l2_loss):
            tape.watch(l2_loss)
            raw = self(images, training=True)
            loss = self._compute_loss(images, targets, raw, training=True)
            scaled = self.optimizer.scale_loss(loss)
        *gradients, l2_factor = tape.gradient(scaled, [*variables, l2_loss])
        if l2_factor is not None:
            gradients = self._with_decay(gradients, variables, decayed, l2_factor)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        count = ops.cast(ops.shape(images)[0], "float32")
        _track(self._loss_tracker, replicas.share_to_total(loss), count)
        return self.compute_metrics(images, targets, None)

    def _with_decay(
        self,
        gradients: list[Tensor],
        variables: list[keras.Variable],
        decayed: dict[int, Tensor],
        l2_factor: Any,
    ) -> list[Any]:
        """Gradients [...] of the variables with `l2_factor` times those of the L2 loss."""
        scale = l2_factor * replicas.total_to_share(-self.config.weight_decay)
        return [
            _minus(gradient, scale * decayed[id(v)]) if id(v) in decayed else gradient
            for gradient, v in zip(gradients, variables, strict=True)
        ]

    def test_step(self, *args: Any) -> Any:
        return replicas.as_reducible(super().test_step(*self._checked(args)))

    def _resolve_auto_jit_compile(self) -> bool:
        # For CPUs XLA compiles for a minute, in gigabytes, and what it makes is slower there.
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if not tf.config.list_physical_devices("GPU"):
                return False
        return super()._resolve_auto_jit_compile()

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Under a strategy Keras averages a batch over the replicas to learn its shape; that fails
        # on booleans and on several workers. A detector is built already; its optimizer may not be.
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Keras's; `x` may also be an image file's name or one image [H, W, 3]: a batch of one.

        Detections are in pixels of the images, as `detect` has them, in NumPy arrays.
        """
        return super().predict(prediction_inputs.as_batches(x), *args, **kwargs)

    def predict_step(self, data: Any) -> dict[str, Any]:
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return as_written(self.detect)(images)

    def get_config(self) -> dict[str, Any]:
        return {"config": records.to_dict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Detector":
        record: DetectorConfig = records.from_dict(cls.config_class, config["config"])
        return cls.from_record(record, config["name"])

    @classmethod
    def from_record(cls, config: Any, name: str) -> "Detector":
        """The detector that a `config_class` describes, without variables."""
        build: Any = cls  # a subclass takes its record alone
        return build(config, name=name)


def serialize_part(part: keras.layers.Layer) -> dict[str, Any]:
    """A layer that was passed into a model, for the model's `get_config`."""
    data = keras.saving.serialize_keras_object(part)
    data.pop("build_config", None)  # the model builds its parts, under its own name
    return data


def _track(mean: keras.metrics.Mean, value: Tensor, count: Tensor) -> None:
    """As `update_state(value, sample_weight=count)`, with a third of its operations."""
    mean.total.assign_add(ops.cast(value, "float32") * count)
    mean.count.assign_add(count)


def _half_square(values: Tensor) -> Tensor:
    """Half the sum of the squares of `values`, float32."""
    if keras.backend.backend() != "tensorflow":
        return 0.5 * ops.sum(ops.square(values))
    import tensorflow as tf

    return tf.nn.l2_loss(values)


class _Fitting(threading.local):
    """What a step tells the losses that are computed in it.

        fit -> step of `detector` -> its compute_loss -> loss_terms of it and of its parts

    Attributes:
        detector: the one that `fit` or `evaluate` is called on, whose optimizer counts the steps.
        l2_loss: its L2 loss, a scalar, in a step that writes the gradient of it out.
    """

    detector: Detector | None = None
    l2_loss: Any = None


# Of each thread, since a strategy runs replicas in threads.
_fitting = _Fitting()


@contextlib.contextmanager
def _within(**facts: Any) -> Iterator[None]:
    """Within the block `_fitting` has these attributes."""
    outer = {name: getattr(_fitting, name) for name in facts}
    _fitting.__dict__.update(facts)
    try:
        yield
    finally:
        _fitting.__dict__.update(outer)


def each_alone(
    loss_terms: Callable[..., dict[str, Any]], targets: dict[str, Tensor], raw: dict[str, Tensor]
) -> Tensor:
    """[B] float32: the sum of `loss_terms(targets, raw)` of each image by itself."""

    def alone(image: Tensor) -> Any:
        one = keras.tree.map_structure(lambda x: x[None], image)
        with replicas.alone():
            terms = loss_terms(*one)
        return ops.sum(ops.stack([ops.cast(x, "float32") for x in terms.values()]))

    return ops.map(alone, (targets, raw))


def _minus(gradient: Tensor, decay: Any) -> Tensor:
    """The difference: the graph optimizer would merge an addition into the AddN before it."""
    return -decay if gradient is None else ops.subtract(gradient, decay)


def check_adds_terms(part: Detector, whole: str) -> None:
    """Refuses a part with a loss of its own, since a whole takes the `loss_terms` of its parts.

    Args:
        part: of a cascade, or what a wrapper trains.
        whole: name of its class.
    """
    if type(part).compute_loss is not Detector.compute_loss:
        raise UserError(
            f"{type(part).__name__} overrides compute_loss, which {whole} would not call; override "
            "loss_terms in its place"
        )


def to_original(detections: dict[str, Tensor], scale: Tensor, size: Tensor) -> dict[str, Tensor]:
    """Moves detections from the fitted canvas back to the image that was fitted, and clips them.

    Args:
        detections: as `Detector.decode` returns them.
        scale: canvas pixels per image pixel, a scalar or [B].
        size: (height, width) of the image, scalars or [B] each.
    """
    scale = ops.reshape(ops.cast(scale, "float32"), (-1, 1, 1))
    size = tuple(ops.reshape(ops.cast(side, "float32"), (-1, 1)) for side in size)
    boxes = detections["boxes"] / scale
    clipped = box_ops.clip(boxes, size)
    if "masks" in detections:  # what is cut off a box is cut off its mask
        shape = tuple(detections["masks"].shape[2:])
        detections = {
            **detections,
            "masks": mask_ops.crop(detections["masks"], boxes, clipped, shape),
        }
    return {**detections, "boxes": clipped}
