"""A recipe and a folder to a trained model: compile, `fit`, and resume where a run was killed.

The folder holds

    recipe.yaml                      the whole recipe, with the classes of the data set
    command.txt                      what was typed
    data.json                        how many images of which names, so that a change is noticed
    best.weights.h5 last.weights.h5  averaged weights, of the best AP and of the last measurement
    logs/history.csv history.jsonl   one row per epoch
    pictures/ curve.png              validation detections at each measurement; losses and scores
    state/                           the newest states from which a killed run resumes
    non_finite.json                  written when a loss is no longer a number
"""

import pathlib
from collections.abc import Callable

import keras
import tensorflow as tf

from tfdet import additions, config, expressions, progress, registry
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.evaluation import coco, sharing
from tfdet.printable import counted
from tfdet.training import (
    board,
    callbacks,
    distribution,
    fingerprint,
    fitting,
    pictures,
    pretrained,
    router_step,
    trained,
)
from tfdet.training.fitting import Fitting
from tfdet.training.level_report import level_report
from tfdet.training.run_data import RunData, open_data
from tfdet.training.run_folder import RunFolder
from tfdet.visualization import curves
from tfdet.weights import importing


def train(
    recipe: config.Recipe,
    model_dir: str | pathlib.Path,
    measure: bool = True,
    command: str = "",
) -> list[dict[str, float]]:
    """Trains the recipe's model in `model_dir`; started again after a kill, it resumes there.

    Args:
        recipe: must equal the one that `model_dir` was begun with.
        model_dir: made if need be; what is in it stands at the top of this file.
        measure: False measures no validation AP and keeps the last weights only.
        command: what the user typed, kept in the folder.

    Returns:
        One row of measurements per epoch.
    """
    strategy = distribution.make_strategy(recipe.train.strategy, recipe.train.connect_seconds)
    is_chief = distribution.is_chief(strategy)
    fitting.prepare(recipe.train)
    recipe = pretrained.with_settings(recipe)
    data = open_data(recipe, strategy, measure)
    known = fingerprint.of_all(train=data.train, val=data.val)
    folder = RunFolder(model_dir, trained.RECIPE_FILE, is_writer=is_chief, data=known)
    changes = folder.check(data.recipe)
    with fitting.precision(recipe.train.mixed_precision), distribution.scope(strategy):
        detector = _make_detector(data.recipe, is_chief)
        run = _make_fitting(detector, data, folder)
    # Not before: a recipe that cannot be built leaves no folder.
    with folder.claimed(data.recipe, command):
        for change in changes:
            _say(run, change)
        _resume(run, detector, data)
        _fit(run, detector, data)
        _calibrate(run, detector, data)
        distribution.wait_for_each_other(strategy)
    _say(run, _ending(run, data))
    return run.progress.history


# Building


def _make_detector(recipe: config.Recipe, is_chief: bool) -> Detector:
    """The detector with the weights that it starts from, some of them frozen."""
    settings, said = recipe.train, []
    changes = {key: value for key, value in recipe.model.items() if key != "name"}
    detector = registry.create(recipe.model["name"], **changes)
    if router_step.trains_router(detector) and not settings.pretrained:
        raise UserError(
            "model.step=router trains a router between two detectors that are trained already; "
            "give their folder, of a training with model.step=joint, as --pretrained"
        )
    if settings.pretrained:
        name = recipe.model["name"]
        said.append(pretrained.start_from(detector, settings.pretrained, name))
    if settings.frozen:
        said.append(freeze(detector, settings.frozen))
    if is_chief and said:
        print("\n".join(said), flush=True)
    return detector


def _make_fitting(detector: Detector, data: RunData, folder: RunFolder) -> Fitting:
    """The detector in what the recipe adds to its training, compiled."""
    settings = data.recipe.train
    model = additions.wrapped(detector, settings.additions, settings.seed)
    fitting.compile_model(model, settings, data.steps_per_epoch, detector.name)
    averages = fitting.make_averages(detector, settings)
    return Fitting(model, settings, data.steps_per_epoch, folder, averages)


def freeze(model: keras.Model, expression: str) -> str:
    """Stops training of the variables whose path in the model begins with a match.

    They also leave the L2 loss. Batch-norm statistics go on moving, see `batch_norm="frozen"`.
    """
    paths = {importing.path_in(model, v): v for v in model.trainable_variables}
    found = expressions.positions("train.frozen", expression, list(paths), at_start=True)
    chosen = [list(paths.values())[i] for i in found]
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


def _resume(run: Fitting, detector: Detector, data: RunData) -> None:
    """Goes to the saved state; a run that begins may have to prepare its router."""
    if run.resume():
        _say(run, f"resuming at step {run.progress.step} of {run.total_steps}")
    elif router_step.trains_router(detector):
        _prepare_router(run, detector, data)
    distribution.check_same_step(data.strategy, run.progress.step)


def _prepare_router(run: Fitting, detector: Detector, data: RunData) -> None:
    """Takes the median gain of the training set where the recipe wants it before the first step."""
    if detector.config.router_loss.offset != "full":
        return
    _say(run, f"measuring the gain of the second detector on {data.train.name}")
    # Every worker by itself, with all images: they come to the same.
    router_step.measure_offset(detector, data.first_batches(detector, data.steps_per_epoch))


def _fit(run: Fitting, detector: Detector, data: RunData) -> None:
    if run.progress.step < run.total_steps:
        report = level_report(detector, data.train) if run.folder.is_writer else None
        _say(run, "\n".join([*(report.lines() if report else []), _plan(run, data)]))
    run.fit(
        lambda: data.shared_batches(detector, run.progress.step),
        data.files_of_step,
        lambda shown: _measurement(run, detector, data, shown),
        lambda rows: curves.draw_history(run.folder.path / "curve.png", rows),
    )


def _calibrate(run: Fitting, detector: Detector, data: RunData) -> None:
    """Calibrates a router with the best weights, once it is trained."""
    if data.val and run.folder.is_writer and router_step.trains_router(detector):
        model, size = trained.load_trained(run.folder.path), data.recipe.eval.batch_size
        path, _ = router_step.calibrate(model, run.folder.path, data.val, size)
        _say(run, f"calibrated on {data.val.name}: {path}")


# Measuring


def _measurement(
    run: Fitting, detector: Detector, data: RunData, shown: board.Board | None
) -> callbacks.Measurement:
    """Measures the detector, without what is added to its training, every few epochs."""
    settings = run.settings

    def prepare() -> None:
        additions.before_measuring(detector, settings.additions, batches)

    def batches(images: int) -> tf.data.Dataset:
        return data.first_batches(detector, -(-images // settings.batch_size))

    measure = None
    if data.val:
        share = distribution.sharing_of(data.strategy)
        measure = _measure_function(run.folder, detector, data.val, data.recipe.eval, shown, share)
    return callbacks.Measurement(
        detector,
        run.progress,
        run.averages,
        run.folder.path if run.folder.is_writer else None,
        measure,
        data.recipe.eval.interval,
        settings.num_epochs,
        prepare,
        run.signals,
    )


def _measure_function(
    folder: RunFolder,
    detector: Detector,
    val: DetectionDataset,
    settings: config.EvalConfig,
    shown: board.Board | None,
    share: sharing.Sharing,
) -> Callable[[int], dict[str, float]]:
    """Gives the AP of the detector as it is, and leaves pictures of what was found.

    All workers detect, each in its share of the images; {} in those that write nothing.
    """
    evaluation = None
    shown_by = progress.measuring if folder.is_writer else lambda: None
    if router_step.trains_router(detector):
        measure_all = router_step.measure_function(
            detector, val, settings.batch_size, shown_by, share
        )
    else:
        evaluation = coco.Evaluation(detector, val, settings.batch_size, share)

        def measure_all() -> dict[str, float]:
            found = evaluation.run(shown_by())
            return found.result() if folder.is_writer else {}

    def measure(epoch: int) -> dict[str, float]:
        scores = measure_all()
        if settings.pictures and shown:
            drawn = pictures.of_measurement(detector, val, settings.pictures, evaluation)
            for name, picture in drawn.items():
                pictures.save(folder.path / "pictures", name, epoch, picture)
                shown.image(epoch, name, picture)
        return scores

    return measure


# Telling


def _plan(run: Fitting, data: RunData) -> str:
    settings, name = run.settings, data.recipe.model["name"]
    measured = f"AP on {data.val.name}" if data.val else "nothing"
    added = additions.describe(settings.additions)
    return (
        f"training {name} on {data.train.name}{added}: {counted(len(data.train), 'image')}, "
        f"{counted(settings.num_epochs, 'epoch')} of {counted(run.steps_per_epoch, 'step')} of "
        f"{settings.batch_size}; measuring {measured}; results go to {run.folder.path}\n"
        f"{fitting.where(data.strategy)}"
    )


_NO_AP = 0.0005  # printed as 0.0


def _ending(run: Fitting, data: RunData) -> str:
    """What the run has left and what its user can do with it."""
    folder, best = run.folder.path, run.progress.best_score
    lines = [
        f"trained {counted(run.settings.num_epochs, 'epoch')}; weights, logs and pictures are in "
        f"{folder}"
    ]
    if best is not None:
        lines.append(f"best AP {100 * best:.1f}, of the weights in {folder / 'best.weights.h5'}")
        if best < _NO_AP:
            lines.append(
                f"why it is 0: look at {folder / 'pictures'} and at the warnings above; "
                'docs/faq.md, "AP is 0", lists what else to check'
            )
    if getattr(data.recipe.model_config(), "step", "") == "joint":
        lines.append(
            f"next: train the router, with --hparams=model.step=router --pretrained={folder} or a "
            "recipe whose name ends in _router"
        )
    else:
        lines.append(
            f"next: tfdet-infer --model_dir={folder} --input=IMAGES --output_dir=FOLDER, or "
            f"tfdet-export --model_dir={folder} --output=FOLDER"
        )
    return "\n".join(lines)


def _say(run: Fitting, sentence: str) -> None:
    if run.folder.is_writer:
        print(sentence, flush=True)
