"""CADDet's supernet as a classifier, for pre-training: https://arxiv.org/abs/2012.04265, 4.1."""

import dataclasses
import pathlib
from typing import Any

import keras
from keras import ops

from tfdet import config as recipes
from tfdet.backbones.supernet import Supernet
from tfdet.errors import UserError
from tfdet.layers.image_normalization import PIXELS, ImageNormalization
from tfdet.losses import replicas
from tfdet.training import trained
from tfdet.training.pretrain_recipe import PretrainRecipe
from tfdet.weights import stored

WEIGHTS_FILE = "last.weights.h5"


class SupernetClassifier(keras.Model):
    """Images [B, H, W, 3], 0–255, to logits float32 [B, classes].

    The grid with all gates 1 and without routers; the mean of each of its last maps; one linear
    layer on all of them. The variables of the grid have the paths that they have in the detector.
    In `fit` "accuracy" and "top5_accuracy" are those of the training crops.

    Args:
        config: of the CADDet that is to start from the weights.
        input_size: (height, width) of the images.
    """

    def __init__(self, config: Any, input_size: tuple[int, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.input_size = input_size
        grid = dataclasses.replace(config.supernet, routers=False)
        self.normalization = ImageNormalization(*PIXELS[config.pixels], name="normalization")
        self.backbone = Supernet(grid, config.batch_norm, name="backbone")
        self.classifier = keras.layers.Dense(config.num_classes, dtype="float32", name="classifier")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.top5 = keras.metrics.SparseTopKCategoricalAccuracy(
            min(5, config.num_classes), name="top5_accuracy"
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.call(keras.KerasTensor(input_shape))

    def call(self, images: Any, training: bool | None = None) -> Any:
        maps = self.backbone(self.normalization(images), training=training)
        means = [ops.mean(maps[level], axis=(1, 2)) for level in self.backbone.levels]
        return self.classifier(ops.concatenate(means, axis=-1))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Cross-entropy and the L2 loss of kernels; a replica's share, see `losses.replicas`."""
        self.accuracy.update_state(y, y_pred)
        self.top5.update_state(y, y_pred)
        losses = ops.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        images = replicas.sum_over_replicas(ops.cast(ops.shape(y)[0], "float32"))
        return ops.sum(losses) / images + replicas.total_to_share(self._l2_loss())

    def _l2_loss(self) -> Any:
        kernels = (v for v in self.trainable_variables if v.name.endswith("kernel"))
        squares = sum(ops.sum(ops.square(ops.cast(v, "float32"))) for v in kernels)
        return 0.5 * self.config.weight_decay * squares

    def train_step(self, *args: Any) -> Any:
        return replicas.as_reducible(super().train_step(*args))

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Everything is built; under a strategy Keras would average labels to learn their shape.
        pass


def make_classifier(recipe: PretrainRecipe) -> SupernetClassifier:
    """The classifier of a recipe, with new weights."""
    model = SupernetClassifier(recipe.model_config(), recipe.data.image_size, name="classifier")
    model.build((1, *recipe.data.image_size, 3))
    return model


def load_classifier(model_dir: str | pathlib.Path) -> SupernetClassifier:
    """The classifier that `pretraining.pretrain` left in a folder."""
    path = pathlib.Path(model_dir)
    model = make_classifier(recipes.load_recipe(path / trained.PRETRAINING_FILE, PretrainRecipe))
    if not (path / WEIGHTS_FILE).is_file():
        raise UserError(f"{model_dir} has no weights yet; they are written after the first epochs")
    stored.load(model, path / WEIGHTS_FILE)
    return model
