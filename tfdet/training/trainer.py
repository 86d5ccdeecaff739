"""A recipe and a folder to a trained model: compile, `fit`, and going on where a run was killed.

The folder holds

    recipe.yaml                      the whole recipe, with the classes of the data set
    command.txt                      what was typed
    best.weights.h5 last.weights.h5  averaged weights, of the best AP and of the last measurement
    logs/history.csv history.jsonl   one row per epoch
    pictures/ curve.png              validation detections at each measurement; losses and scores
    state/                           the newest states from which a killed run goes on
    non_finite.json                  written when a loss is no longer a number
"""

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdet import config, files, registry
from tfdet.data import loader, pipeline, sources
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.nas import recalibration
from tfdet.training import (
    additions,
    averaging,
    board,
    callbacks,
    checkpoint,
    distribution,
    pictures,
    pretrained,
    router_step,
    trained,
)
from tfdet.training import optimizer as optimizers
from tfdet.training import progress as progress_lib
from tfdet.visualization import curves

STATE_FOLDER = "state"
LOGS_FOLDER = "logs"


@dataclasses.dataclass
class Run:
    """One training run: what the steps of `train` hand to each other."""

    recipe: config.Recipe
    model_dir: pathlib.Path
    strategy: tf.distribute.Strategy | None
    train_data: DetectionDataset
    val_data: DetectionDataset | None
    model: Any = None
    fitted: Any = None  # the model, or a wrapper with what it needs while it is trained
    averages: averaging.MovingAverages | None = None
    progress: checkpoint.Progress = dataclasses.field(default_factory=checkpoint.Progress)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_data) // self.recipe.train.batch_size

    @property
    def is_chief(self) -> bool:
        return distribution.is_chief(self.strategy)


def train(
    recipe: config.Recipe,
    model_dir: str | pathlib.Path,
    measure: bool = True,
    command: str = "",
) -> list[dict[str, float]]:
    """Trains the recipe's model in `model_dir`; started again after a kill, it goes on from there.

    Args:
        recipe: must equal the one that `model_dir` was begun with.
        model_dir: made if need be; what is in it stands at the top of this file.
        measure: False measures no validation AP and keeps the last weights only.
        command: what the user typed, kept in the folder.

    Returns:
        One row of measurements per epoch.
    """
    strategy = distribution.make_strategy(recipe.train.strategy)
    if recipe.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(recipe.train.seed)
    run = _open(recipe, pathlib.Path(model_dir), strategy, measure)
    _check_folder(run)
    with precision(recipe.train.mixed_precision), distribution.scope(strategy):
        _build(run)
    _claim_folder(run, command)  # not before: a recipe that cannot be built leaves no folder
    with files.holding(run.model_dir) if run.is_chief else contextlib.nullcontext():
        _go_on(run)
    return run.progress.history


def _go_on(run: Run) -> None:
    """Trains from the saved state, or from the start, to the end."""
    state = checkpoint.TrainingState(run.fitted, run.averages, run.progress)
    folder = checkpoint.StateFolder(run.model_dir / STATE_FOLDER)
    saved = folder.read()
    if saved:
        state.restore(*saved)
        _say(run, f"going on from step {run.progress.step} of {_total_steps(run)}")
    elif router_step.trains_router(run.model):
        _prepare_router(run)
    distribution.check_same_step(run.strategy, run.progress.step)
    if run.progress.step < _total_steps(run):
        _say(run, _plan(run))
    _fit(run, _callbacks(run, state, folder))
    if run.val_data and run.is_chief and router_step.trains_router(run.model):
        model, size = trained.load_trained(run.model_dir), run.recipe.eval.batch_size
        path, _ = router_step.calibrate(model, run.model_dir, run.val_data, size)
        _say(run, f"calibrated on {run.val_data.name}: {path}")
    epochs = run.recipe.train.num_epochs
    _say(run, f"trained {epochs} epochs; weights, logs and pictures are in {run.model_dir}")


def _prepare_router(run: Run) -> None:
    """Takes the median gain of the training set where the recipe wants it before the first step."""
    if run.model.config.router_loss.offset != "full":
        return
    _say(run, f"measuring the gain of the second detector on {run.train_data.name}")
    # Every worker by itself, with all images: they come to the same.
    batches = _train_batches(run, 0, 1).take(run.steps_per_epoch)
    router_step.measure_offset(run.model, batches)


# Opening


def _open(
    recipe: config.Recipe,
    model_dir: pathlib.Path,
    strategy: tf.distribute.Strategy | None,
    measure: bool,
) -> Run:
    if not recipe.data.train:
        raise UserError("no training data: give --data or data.train in the recipe")
    distribution.check_batch_size(strategy, recipe.train.batch_size)
    chosen = recipe.model.get("class_names"), recipe.model.get("class_ids")
    train_data = sources.open_dataset(recipe.data.train, *chosen)
    val_data = None
    if recipe.data.val and measure:
        val_data = sources.open_dataset(
            recipe.data.val, train_data.class_names, train_data.class_ids
        )
    for dataset in (train_data, val_data):
        if dataset:
            loader.check_usable(dataset)
    recipe = _with_classes(recipe, train_data)
    run = Run(recipe, model_dir, strategy, train_data, val_data)
    if run.steps_per_epoch == 0:
        raise UserError(
            f"{train_data.name} has {len(train_data)} images, fewer than one batch of "
            f"{recipe.train.batch_size}; lower train.batch_size"
        )
    return run


def _with_classes(recipe: config.Recipe, dataset: DetectionDataset) -> config.Recipe:
    """The recipe with the data set's classes in its model section, so that they travel with it."""
    wanted = recipe.model.get("num_classes", dataset.num_classes)
    if wanted != dataset.num_classes:
        raise UserError(
            f"model.num_classes is {wanted}, but {dataset.name} has {dataset.num_classes} classes "
            f"({', '.join(dataset.class_names[:5])}, ...); leave the key out"
        )
    classes = {
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "class_ids": list(dataset.class_ids),
    }
    return dataclasses.replace(recipe, model={**recipe.model, **classes})


def _check_folder(run: Run) -> None:
    """Refuses a folder that cannot be written to or in which another recipe was begun."""
    folder = run.model_dir.absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"--model_dir={run.model_dir}: {above} is a file; give a folder")
    if run.is_chief and not os.access(above, os.W_OK):
        raise UserError(f"--model_dir={run.model_dir}: {above} cannot be written to")
    path = run.model_dir / trained.RECIPE_FILE
    if path.is_file():
        different = config.differences(run.recipe, config.load_recipe(path))
        if different:
            raise UserError(
                f"{run.model_dir} was begun with another recipe ({'; '.join(different)}); "
                "use the same recipe to go on, or another --model_dir to start anew"
            )


def _claim_folder(run: Run, command: str) -> None:
    if not run.is_chief:
        return
    run.model_dir.mkdir(parents=True, exist_ok=True)
    config.save_recipe(run.recipe, run.model_dir / trained.RECIPE_FILE)
    if command:
        files.write_text(run.model_dir / "command.txt", command + "\n")


# Building


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Within the block layers compute in `name` and keep float32 variables."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{name}" if name else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(run: Run) -> None:
    settings = run.recipe.train
    changes = {key: value for key, value in run.recipe.model.items() if key != "name"}
    run.model = registry.create(run.recipe.model["name"], **changes)
    if settings.pretrained:
        report = pretrained.start_from(run.model, settings.pretrained)
        _say(run, report)
    if settings.frozen:
        _say(run, freeze(run.model, settings.frozen))
    run.fitted = additions.with_additions(run.model, settings)
    optimizer = optimizers.make_optimizer(settings, run.steps_per_epoch, run.model.name)
    # XLA compiles for minutes and is slower than plain kernels for depthwise convolutions on CPUs.
    run.fitted.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(run.fitted.trainable_variables)  # of what `compile` has left to train
    if settings.ema_decay:
        run.averages = averaging.MovingAverages(run.model, settings.ema_decay, settings.ema_ramp)


def freeze(model: keras.Model, expression: str) -> str:
    """Stops training of the variables whose path in the model begins with a match; says how many.

    They also leave the L2 loss. Batch-norm statistics go on moving, see `batch_norm="frozen"`.
    """
    pattern = re.compile(expression)
    paths = {pretrained.path_in(model, v): v for v in model.trainable_variables}
    chosen = [variable for path, variable in paths.items() if pattern.match(path)]
    if not chosen:
        some = ", ".join(sorted({path.partition("/")[0] for path in paths}))
        raise UserError(
            f"train.frozen={expression!r} matches no variable; their paths begin with {some}"
        )
    if len(chosen) == len(model.trainable_variables):
        raise UserError(f"train.frozen={expression!r} matches all variables; none is left to train")
    for variable in chosen:
        variable.trainable = False
    return f"{len(chosen)} of the variables are frozen ({expression})"


# Fitting


def _callbacks(
    run: Run, state: checkpoint.TrainingState, folder: checkpoint.StateFolder
) -> list[keras.callbacks.Callback]:
    settings, progress = run.recipe.train, run.progress
    logs = run.model_dir / LOGS_FOLDER
    chief = run.is_chief
    chosen = [
        callbacks.StepCounter(progress, settings.batch_size),
        callbacks.NonFiniteStop(
            progress,
            run.steps_per_epoch,
            lambda step: _files_of_step(run, step),
            run.model_dir / "non_finite.json" if chief else None,
        ),
    ]
    if run.averages:
        chosen.append(callbacks.Averaging(run.averages))
    if chief:
        shown = board.Board(logs)
        chosen += [
            callbacks.Measurement(
                progress,
                run.averages,
                run.model_dir,
                _measure_function(run, shown) if run.val_data else None,
                run.recipe.eval.interval,
                settings.num_epochs,
                (lambda: _recalibrate(run)) if settings.elastic else None,
            ),
            callbacks.Journal(progress, logs, lambda rows: _draw_curve(run.model_dir, rows), shown),
        ]
    # Workers must save together, and their clocks differ.
    seconds = None if settings.strategy == "multi_worker" else settings.save_seconds
    saver = callbacks.StateSaver(state, folder if chief else None, run.steps_per_epoch, seconds)
    chosen.append(saver)
    if chief:
        chosen.append(progress_lib.ProgressLine(progress, run.steps_per_epoch, settings.num_epochs))
    return chosen


def _fit(run: Run, chosen: list[keras.callbacks.Callback]) -> None:
    epochs = run.recipe.train.num_epochs
    fit(run.fitted, lambda: _batches(run), run.progress, run.steps_per_epoch, epochs, chosen)


def fit(
    model: keras.Model,
    batches: Callable[[], Any],
    progress: checkpoint.Progress,
    steps_per_epoch: int,
    num_epochs: int,
    chosen: list[keras.callbacks.Callback],
) -> None:
    """Keras's `fit` from the step that `progress` has; a begun epoch gets a `fit` of its own.

    Args:
        model: compiled.
        batches: gives those from the progress's step on.
        progress: how far the run is.
        steps_per_epoch, num_epochs: length of the run.
        chosen: callbacks.
    """

    def fit_epochs(first: int, end: int, steps: int) -> None:
        model.fit(
            batches(),
            initial_epoch=first,
            epochs=end,
            steps_per_epoch=steps,
            callbacks=chosen,
            shuffle=False,  # the pipeline has shuffled
            verbose=0,
        )

    epoch, done = divmod(progress.step, steps_per_epoch)
    if done:
        fit_epochs(epoch, epoch + 1, steps_per_epoch - done)
        epoch += 1
    if epoch < num_epochs:
        fit_epochs(epoch, num_epochs, steps_per_epoch)


def _batches(run: Run) -> tf.data.Dataset:
    return distribution.share_batches(
        run.strategy,
        run.recipe.train.batch_size,
        lambda index, count: _train_batches(run, index, count),
    )


def _train_batches(
    run: Run, index: int, count: int, start_step: int | None = None
) -> tf.data.Dataset:
    """The part of worker `index` of `count` in every batch; from the run's step on, or another."""
    data, settings = run.recipe.data, run.recipe.train
    return pipeline.train_batches(
        run.train_data,
        run.model.image_size,
        settings.batch_size,
        data.augment,
        settings.seed,
        run.model.pad_value,
        max_boxes=data.max_boxes,
        start_step=run.progress.step if start_step is None else start_step,
        cache=data.cache,
        shard=(index, count),
        mask_size=run.model.mask_size,
    )


def _files_of_step(run: Run, step: int) -> list[str]:
    settings = run.recipe.train
    indices = pipeline.batch_indices(len(run.train_data), settings.batch_size, settings.seed, step)
    data = run.train_data
    whole_files = data.spans is None and data.render is None
    return [
        str(data.files[i]) if whole_files else f"image {data.image_ids[i]} of {data.files[i]}"
        for i in indices
    ]


# Measuring


def _measure_function(run: Run, shown: board.Board) -> Callable[[int], dict[str, float]]:
    """Gives the AP of the model as it is, and leaves pictures of what was found."""
    settings = run.recipe.eval
    evaluation = None
    if router_step.trains_router(run.model):
        measure_all = router_step.measure_function(
            run.model, run.val_data, settings.batch_size, progress_lib.measuring
        )
    else:
        evaluation = coco.Evaluation(run.model, run.val_data, settings.batch_size)

        def measure_all() -> dict[str, float]:
            return evaluation.run(progress_lib.measuring()).result()

    def measure(epoch: int) -> dict[str, float]:
        scores = measure_all()
        if settings.pictures:
            drawn = pictures.of_measurement(run.model, run.val_data, settings.pictures, evaluation)
            for name, picture in drawn.items():
                pictures.save(run.model_dir / "pictures", name, epoch, picture)
                shown.image(epoch, name, picture)
        return scores

    return measure


def _recalibrate(run: Run) -> None:
    """The whole super-network's own statistics: those that moved are of all its subnets."""
    elastic = run.recipe.train.elastic
    batch_size = run.recipe.train.batch_size
    batches = _train_batches(run, 0, 1, start_step=0)
    recalibration.recalibrate(
        run.model, batches.take(-(-elastic.recalibration_images // batch_size))
    )


def _draw_curve(model_dir: pathlib.Path, history: list[dict[str, float]]) -> None:
    curves.draw_history(model_dir / "curve.png", history)


def _plan(run: Run) -> str:
    settings, name = run.recipe.train, run.recipe.model["name"]
    measured = f"AP on {run.val_data.name}" if run.val_data else "nothing"
    teacher = f" with the teacher {settings.distill.teacher}" if settings.distill.teacher else ""
    return (
        f"training {name} on {run.train_data.name}{teacher}: {len(run.train_data)} images, "
        f"{settings.num_epochs} epochs of {run.steps_per_epoch} steps of {settings.batch_size}; "
        f"measuring {measured}; results go to {run.model_dir}\n"
        "the first step builds the graph, which takes a while"
    )


def _total_steps(run: Run) -> int:
    return run.steps_per_epoch * run.recipe.train.num_epochs


def _say(run: Run, sentence: str) -> None:
    if run.is_chief:
        print(sentence, flush=True)
