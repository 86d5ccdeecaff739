"""DETR, which detects with a transformer and no post-processing: https://arxiv.org/abs/2005.12872."""

import dataclasses
import math
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfdet import registry
from tfdet.backbones.catalog import check_pixels, make_backbone, resolve
from tfdet.backbones.encoding import Encoding
from tfdet.backbones.protocol import Backbone
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.detector_config import DetectorConfig
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind
from tfdet.layers.composite import Composite
from tfdet.layers.convolution import Conv2D
from tfdet.layers.image_normalization import Pixels
from tfdet.layers.initializers import uniform_bias, uniform_kernel
from tfdet.losses.set_prediction import SetLossConfig, corners, set_loss_terms
from tfdet.ops import boxes as box_ops
from tfdet.ops.counting import Operations, operations
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor

# PyTorch's layer norm; Keras's default is 1e-3.
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class DETRConfig(DetectorConfig):
    """All that makes a DETR: fields of `DetectorConfig` and these.

    The defaults are the published DETR's on ResNet-50. Its head has 91 classes, COCO's ids up to
    90, and no L2 loss: the published decay is the optimizer's.

    Attributes:
        backbone: a name in `backbones.catalog`, or the encoding of a ResNet: itself, JSON text, or
            the name of a .json file, see `backbones.encoding`.
        level: the map of the backbone that is used; 4 where its last stage keeps the size.
        pixels: a key of `layers.image_normalization.PIXELS`; "lite" for EfficientNet-Lite.
        batch_norm: "plain", "synchronized" over replicas, or "frozen".
        frozen_stages: parts of a ResNet that are not trained, see `backbones.resnet`.
        gradient_checkpointing: compute the backbone's blocks again for their gradients.
        width: channels of the transformer.
        heads: the width is divided among them in attention.
        encoder_layers, decoder_layers: of the transformer.
        feed_forward: width inside of a layer's two dense layers.
        queries: objects that can be found in an image.
        temperature: the positions have waves from one to about this many images long.
        dropout: share of numbers that are dropped in training: of attention weights, after each
            attention, within and after the two dense layers.
        loss: see `losses.set_prediction.SetLossConfig`.
    """

    image_size: tuple[int, int] = (800, 1344)
    num_classes: int = 91
    backbone: str | Encoding = "r50-3x3"
    level: Literal[3, 4, 5] = 5
    pixels: Pixels = "imagenet"
    batch_norm: Kind = "frozen"
    frozen_stages: int = 2
    gradient_checkpointing: bool = False
    width: int = 256
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feed_forward: int = 2048
    queries: int = 100
    temperature: float = 10_000.0
    dropout: float = 0.1
    loss: SetLossConfig = dataclasses.field(default_factory=SetLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "backbone", resolve(self.backbone))
        check_pixels(self.backbone, self.pixels)
        self.check_positive("heads", "decoder_layers", "feed_forward", "queries")
        if self.width < 4 or self.width % 4 or self.width % self.heads:
            raise UserError(
                f"width must be a multiple of 4 and of heads={self.heads}, got {self.width}"
            )
        if self.encoder_layers < 0:
            raise UserError(f"encoder_layers must be at least 0, got {self.encoder_layers}")
        if not 1 <= self.temperature < math.inf:
            raise UserError(f"temperature must be at least 1, got {self.temperature}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be in [0, 1), got {self.dropout}")


@keras.saving.register_keras_serializable(package="tfdet")
class DETR(BackboneDetector):
    """A backbone's map, a transformer, and two predictors of each query; no anchors, no NMS.

    `call` takes images as a `Detector` and returns, for the L decoder layers, the last of which
    detects, `{"class_logits": [B, L, Q, C + 1], "boxes": float32 [B, L, Q, 4], "extents":
    float32 [B, 2]}`. The last class is "no object". Boxes are cxcywh in [0, 1], relative to the
    part of the canvas that the image covers, whose (height, width) in pixels is "extents".

    Example:
        model = tfdet.create("detr-r50", num_classes=3)
        detections = model.predict(images)

    Args:
        config: what to build.
        backbone: another one than that of the configuration, see `BackboneDetector`.
    """

    config_class = DETRConfig
    # The first decoder layer compares and mixes the same vector for all queries.
    unreached = ("/decoder_0/self_attention/(query|key|value)/",)

    def __init__(self, config: DETRConfig, backbone: Backbone | None = None, **kwargs: Any):
        # Not cast: half precision would move the colour of the padding, see `image_extents`.
        kwargs = {"autocast": False, **kwargs}
        super().__init__(config, ("class_loss", "box_loss", "giou_loss"), backbone, **kwargs)
        self.transformer = Transformer(
            config.width,
            config.heads,
            config.encoder_layers,
            config.decoder_layers,
            config.feed_forward,
            config.queries,
            config.temperature,
            config.dropout,
            name="transformer",
        )
        self.head = QueryHead(config.num_classes, config.width, name="head")

    def make_backbone(self) -> Backbone:
        config = self.config
        return make_backbone(
            config.backbone,
            levels=(config.level,),
            batch_norm=config.batch_norm,
            frozen_stages=config.frozen_stages,
            gradient_checkpointing=config.gradient_checkpointing,
            name="backbone",
        )

    @property
    def backbone_levels(self) -> tuple[str, ...]:
        return (f"P{self.config.level}",)

    @property
    def has_constant_norms(self) -> bool:
        return self.config.batch_norm == "frozen"

    @property
    def max_detections(self) -> int:
        return self.config.queries

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return {name: [getattr(self, name)] for name in ("backbone", "transformer", "head")}

    def taps(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        extents = image_extents(images, self.pad_value)
        return {**super().taps(images, training, added), "extents": extents}

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        x = taps[self.backbone_levels[0]]
        is_image = cells_of_image(taps["extents"], x.shape[1:3], image_size or self.image_size)
        found = self.transformer(x, is_image, training=training)
        return {**self.head(found), "extents": taps["extents"]}

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        return set_loss_terms(targets, raw, self.config.loss)

    @property
    def halves(self) -> Any:
        raise UserError(
            f"{self.name} cannot be split for int8: where an image ends is found by comparing "
            "exact colours"
        )

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """See `Detector.decode`; each query is a detection of its most probable class."""
        logits = ops.cast(raw["class_logits"][:, -1], "float32")
        scores, labels = ops.top_k(ops.softmax(logits)[..., :-1], 1)
        height, width = raw["extents"][:, :1, None], raw["extents"][:, 1:, None]
        scale = ops.concatenate([width, height, width, height], axis=-1)
        boxes = box_ops.clip(corners(raw["boxes"][:, -1]) * scale, image_size)
        is_finite = ops.all(ops.isfinite(boxes), axis=-1) & ops.isfinite(scores[..., 0])
        scores, index = ops.top_k(ops.where(is_finite, scores[..., 0], 0.0), scores.shape[1])
        index = ops.cast(index, "int32")
        is_detection = scores > 0
        labels = gather_rows(ops.cast(labels, "int32")[..., 0], index)
        return {
            "boxes": ops.where(is_detection[..., None], gather_rows(boxes, index), 0.0),
            "scores": scores,
            "labels": ops.where(is_detection, labels, -1),
            "count": ops.sum(ops.cast(is_detection, "int32"), axis=-1),
        }


def image_extents(images: Tensor, pad_value: tuple[float, float, float]) -> Tensor:
    """(height, width) of what images cover of their canvas, float32 [B, 2], in pixels.

    An image lies in the top left corner of its canvas [B, H, W, 3] and ends with the last row and
    column that have a pixel of another colour than the padding's, exactly, in float32. A canvas of
    that colour alone is an image as a whole. Images without padding (uint8 ones among them, whose
    colours are whole numbers) are whole, too.
    """
    colour = ops.convert_to_tensor(pad_value, "float32")
    images = ops.cast(images, "float32")
    # TensorFlow does not infer the shape of `!=`, and ONNX's converter needs it.
    is_image = ops.any((images < colour) | (images > colour), axis=-1)
    ends = []
    for axis, size in ((2, images.shape[1]), (1, images.shape[2])):
        # Positions count from 1.
        last = ops.where(ops.any(is_image, axis=axis), np.arange(1, size + 1, dtype=np.int32), 0)
        last = ops.max(last, axis=1, initial=0)
        ends.append(ops.where(last > 0, last, size))
    return ops.cast(ops.stack(ends, axis=1), "float32")


def cells_of_image(
    extents: Tensor, map_size: tuple[int, int], image_size: tuple[int, int]
) -> Tensor:
    """Which cells of a map belong to the image, not to the padding: bool [B, H, W].

    Cell i of n stands for row floor(i * height / n) of the canvas, as published: the first one
    always belongs to the image.
    """
    rows, columns = (
        (np.arange(cells) * size // cells).astype(np.float32)
        for cells, size in zip(map_size, image_size, strict=True)
    )
    is_row, is_column = extents[:, :1] > rows, extents[:, 1:] > columns
    return is_row[:, :, None] & is_column[:, None, :]


def sine_positions(is_image: Tensor, width: int, temperature: float = 10_000.0) -> Tensor:
    """Sines and cosines of where each cell is in its image: [B, H, W] bool to [B, H, W, width].

    The first half of the channels is for rows, the second for columns; in each, a sine and a cosine
    take turns, from one period over the image to almost `temperature` images long. float32,
    whatever the model's precision: the small term in the divisor would vanish.
    """
    is_image = ops.cast(is_image, "float32")
    exponents = np.arange(width // 4) / (width // 4)
    periods = (temperature**exponents).astype(np.float32)
    halves = []
    for axis in (1, 2):
        position = ops.cumsum(is_image, axis=axis)
        size = ops.max(position, axis=axis, keepdims=True)  # the last one's
        angles = (2 * math.pi * position / (size + 1e-6))[..., None] / periods
        halves += [ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)]
    waves = ops.stack(halves, axis=3)  # [B, H, W, 2, width / 4, 2]
    return ops.reshape(waves, (-1, *is_image.shape[1:3], width))


class _Part(Composite):
    """A layer that takes several tensors: its own layers are built when they are first called."""

    def build(self, input_shape: Any) -> None:
        """Nothing; `Composite` would call with the first tensor alone."""


@keras.saving.register_keras_serializable(package="tfdet")
class Transformer(_Part):
    """A map [B, H, W, C] to what each decoder layer makes of the queries, [B, L, Q, width].

    `is_image` [B, H, W] marks the cells that are looked at. Positions are added to what is compared
    in each attention, never to what it passes on.

    Args:
        width, heads, encoder_layers, decoder_layers, feed_forward, queries, temperature, dropout:
            see `DETRConfig`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        feed_forward: int,
        queries: int,
        temperature: float,
        dropout: float,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.heads = heads
        self.feed_forward = feed_forward
        self.queries = queries
        self.temperature = temperature
        self.dropout = dropout
        options = (width, heads, feed_forward, dropout)
        self.encoder = [EncoderLayer(*options, name=f"encoder_{i}") for i in range(encoder_layers)]
        self.decoder = [DecoderLayer(*options, name=f"decoder_{i}") for i in range(decoder_layers)]
        self.norm = _norm("norm")

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.project = Conv2D(
            self.width,
            1,
            kernel_initializer=uniform_kernel(),
            bias_initializer=uniform_bias(input_shape[-1]),
            name="project",
        )
        self.query_embedding = self.add_weight(
            shape=(self.queries, self.width),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="query_embedding",
        )

    def call(self, x: Tensor, is_image: Tensor, training: bool | None = None) -> Tensor:
        height, width = x.shape[1:3]
        memory = ops.reshape(self.project(x), (-1, height * width, self.width))
        positions = sine_positions(is_image, self.width, self.temperature)
        positions = ops.cast(ops.reshape(positions, (-1, height * width, self.width)), memory.dtype)
        is_seen = ops.reshape(is_image, (-1, height * width))
        for layer in self.encoder:
            memory = layer(memory, positions, is_seen, training=training)
        slots = ops.cast(self.query_embedding, memory.dtype)[None]  # [1, Q, width]
        x = ops.zeros_like(memory[:, :1]) + ops.zeros_like(slots)  # [B, Q, width]
        found = []
        for layer in self.decoder:
            x = layer(x, slots, memory, positions, is_seen, training=training)
            # The published code normalises a copy of each layer's output for the predictors alone.
            found.append(self.norm(x))
        return ops.stack(found, axis=1)

    def get_config(self) -> dict[str, Any]:
        names = ("width", "heads", "feed_forward", "queries", "temperature", "dropout")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "encoder_layers": len(self.encoder),
            "decoder_layers": len(self.decoder),
        }


class _Layer(_Part):
    """What the layers of encoder and decoder share: dense layers, norms and dropout.

    Args:
        width, heads, feed_forward, dropout: see `DETRConfig`.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.heads = heads
        self.feed_forward = feed_forward
        self.dropout = dropout
        self.dense1 = keras.layers.Dense(
            feed_forward, bias_initializer=uniform_bias(width), name="dense1"
        )
        self.dense2 = keras.layers.Dense(
            width, bias_initializer=uniform_bias(feed_forward), name="dense2"
        )
        self.dense_norm = _norm("dense_norm")
        self.drop = keras.layers.Dropout(dropout, name="drop")

    def _dense(self, x: Tensor, training: bool | None) -> Tensor:
        y = self.drop(ops.relu(self.dense1(x)), training=training)
        return self.dense_norm(x + self.drop(self.dense2(y), training=training))

    def get_config(self) -> dict[str, Any]:
        names = ("width", "heads", "feed_forward", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="tfdet")
class EncoderLayer(_Layer):
    """Every cell looks at all cells of its image: [B, N, width] to [B, N, width]."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, **kwargs: Any):
        super().__init__(width, heads, feed_forward, dropout, **kwargs)
        self.attention = Attention(width, heads, dropout, name="attention")
        self.norm = _norm("norm")

    def call(
        self, x: Tensor, positions: Tensor, is_seen: Tensor, training: bool | None = None
    ) -> Tensor:
        y = self.attention(x, positions, x, positions, is_seen, training=training)
        return self._dense(self.norm(x + self.drop(y, training=training)), training)


@keras.saving.register_keras_serializable(package="tfdet")
class DecoderLayer(_Layer):
    """Every query looks at all queries, then at all cells: [B, Q, width] to [B, Q, width]."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, **kwargs: Any):
        super().__init__(width, heads, feed_forward, dropout, **kwargs)
        self.self_attention = Attention(width, heads, dropout, name="self_attention")
        self.self_norm = _norm("self_norm")
        self.cross_attention = Attention(width, heads, dropout, name="cross_attention")
        self.cross_norm = _norm("cross_norm")

    def call(
        self,
        x: Tensor,
        slots: Tensor,
        memory: Tensor,
        positions: Tensor,
        is_seen: Tensor,
        training: bool | None = None,
    ) -> Tensor:
        y = self.self_attention(x, slots, x, slots, training=training)
        x = self.self_norm(x + self.drop(y, training=training))
        y = self.cross_attention(memory, positions, x, slots, is_seen, training=training)
        x = self.cross_norm(x + self.drop(y, training=training))
        return self._dense(x, training)


@keras.saving.register_keras_serializable(package="tfdet")
class Attention(Composite):
    """Each of Q rows looks at N others: [B, N, width] and [B, Q, width] to [B, Q, width].

    The positions of both are added where rows are compared, not where they are passed on. Of the N,
    those count for which `is_seen` [B, N] is True, or all without it; one at least must.

    Not `keras.layers.MultiHeadAttention`, which starts all four kernels within one bound (the
    published output has its own) and, in half precision, compares in that.

    Args:
        width, heads, dropout: see `DETRConfig`.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.heads = heads
        self.dropout = dropout
        # Xavier's bound of the published kernel, which is three of these in one.
        initializer = keras.initializers.VarianceScaling(0.5, "fan_avg", "uniform")
        self.query, self.key, self.value = (
            keras.layers.Dense(width, kernel_initializer=initializer.clone(), name=name)
            for name in ("query", "key", "value")
        )
        self.output_dense = keras.layers.Dense(width, name="output_dense")
        self.drop = keras.layers.Dropout(dropout, name="drop")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in (self.query, self.key, self.value, self.output_dense):
            layer.build((None, None, self.width))

    def call(
        self,
        others: Tensor,
        other_positions: Tensor,
        rows: Tensor,
        row_positions: Tensor,
        is_seen: Tensor = None,
        training: bool | None = None,
    ) -> Tensor:
        query = self._split(self.query(rows + row_positions))  # [B, heads, Q, width / heads]
        key = self._split(self.key(others + other_positions))
        value = self._split(self.value(others))
        scale = (self.width // self.heads) ** -0.5
        logits = ops.cast(ops.matmul(query * scale, ops.swapaxes(key, 2, 3)), "float32")
        if is_seen is not None:
            logits = ops.where(is_seen[:, None, None], logits, -1e9)
        weights = ops.cast(ops.softmax(logits), value.dtype)  # [B, heads, Q, N]
        found = ops.matmul(self.drop(weights, training=training), value)
        found = ops.reshape(ops.swapaxes(found, 1, 2), (-1, rows.shape[1], self.width))
        return self.output_dense(found)

    def _split(self, x: Tensor) -> Tensor:
        shape = (-1, x.shape[1], self.heads, self.width // self.heads)
        return ops.swapaxes(ops.reshape(x, shape), 1, 2)

    def get_config(self) -> dict[str, Any]:
        names = ("width", "heads", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@operations.register
def _(layer: Attention, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Operations:
    # Comparing and mixing; the dense layers count themselves.
    macs = 2 * inputs[1] * outputs[1] * layer.width
    return Operations(macs, macs)


@keras.saving.register_keras_serializable(package="tfdet")
class QueryHead(Composite):
    """Queries [B, L, Q, width] to {"class_logits": [B, L, Q, C + 1], "boxes": [B, L, Q, 4]}.

    Boxes are float32 cxcywh in [0, 1].

    Args:
        num_classes: C.
        width: of the hidden layers.
    """

    def __init__(self, num_classes: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.width = width
        self.classes = _predictor(num_classes + 1, width, "classes")
        self.box1, self.box2 = (_predictor(width, width, name) for name in ("box1", "box2"))
        self.box3 = _predictor(4, width, "box3")

    def call(self, x: Tensor) -> dict[str, Tensor]:
        codes = self.box3(ops.relu(self.box2(ops.relu(self.box1(x)))))
        return {
            "class_logits": self.classes(x),
            "boxes": ops.sigmoid(ops.cast(codes, "float32")),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "width": self.width}


def _predictor(units: int, inputs: int, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(
        units,
        kernel_initializer=uniform_kernel(),
        bias_initializer=uniform_bias(inputs),
        name=name,
    )


def _norm(name: str) -> keras.layers.LayerNormalization:
    return keras.layers.LayerNormalization(epsilon=_EPSILON, name=name)


R50 = DETRConfig()
# Ours: small enough to train on a CPU within the hour, and for unit tests.
NANO = DETRConfig(
    image_size=(256, 256),
    num_classes=5,
    backbone="resnet-nano-dc5",
    level=4,
    batch_norm="plain",
    frozen_stages=0,
    width=96,
    heads=4,
    encoder_layers=2,
    decoder_layers=3,
    feed_forward=256,
    queries=16,
    temperature=20.0,
    dropout=0.0,
)
TEST = dataclasses.replace(
    NANO,
    image_size=(64, 64),
    backbone="resnet-test-dc5",
    width=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    feed_forward=32,
    queries=10,
)

_TABLE = {
    "r50": R50,
    "r50-dc5": dataclasses.replace(R50, backbone="r50-dc5", level=4),
    "r101": dataclasses.replace(R50, backbone="r101-3x3"),
    "r101-dc5": dataclasses.replace(R50, backbone="r101-dc5", level=4),
    "nano": NANO,
    "test": TEST,
}

for _name, _entry in _TABLE.items():
    registry.register(f"detr-{_name}", DETR, _entry)
