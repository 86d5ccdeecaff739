"""`tfdet-data view`: a data set on one page, beside a model and as a recipe would train with it."""

import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfdet import files
from tfdet.cli import app, flags
from tfdet.errors import UserError
from tfdet.printable import counted
from tfdet.progress import ImageCounter

if TYPE_CHECKING:
    from tfdet.config import Recipe
    from tfdet.data.dataset import DetectionDataset
    from tfdet.detectors.base import Detector
    from tfdet.visualization.dataset_page import Levels, Shown

_PICTURES = 24
_MOST_PICTURES = 200  # a page of more takes a browser long to open
_BATCH = 16  # images shown of a batch
_OF_A_KIND = 3  # images shown of a problem


def check_flags(options: types.SimpleNamespace) -> None:
    """Refuses, ahead of the work, what cannot be shown or written."""
    path = pathlib.Path(options.output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise app.UsageError(f"--output must be a name such as view.html, got {options.output}")
    if path.is_dir():
        raise app.UsageError(f"--output={options.output} is a folder; give the name of a file")
    if path.exists() and not (options.overwrite or _is_ours(path)):
        raise UserError(
            f"--output={path} is there, and tfdet-data did not write it; give another name, or "
            "--overwrite to replace it"
        )
    if (options.count or 1) > _MOST_PICTURES:
        raise app.UsageError(f"--count must be at most {_MOST_PICTURES}, got {options.count}")
    flags.check_writable(path.absolute().parent, "output")


def _is_ours(path: pathlib.Path) -> bool:
    try:
        return "Written by tfdet-data view" in path.read_text("utf-8", "replace")[-500:]
    except OSError:
        return False


def view(
    source: str,
    options: types.SimpleNamespace,
    model: "Detector | None",
    recipe: "Recipe | None",
) -> None:
    """Writes the page.

    Args:
        source: of the data.
        options: of the command: `output`, `count`, `seed`.
        model: beside which the objects are shown.
        recipe: of which a training batch is shown; it is of the model.
    """
    from tfdet.data import check, sources, survey
    from tfdet.visualization import dataset_page

    print(f"Reading {source} and decoding its images")
    report = check.check(source, ImageCounter())
    dataset = sources.read_source(source)
    facts = survey.survey(dataset)
    chosen = survey.sample(facts, options.count or _PICTURES, options.seed)
    text = dataset_page.dataset_page(
        report,
        facts,
        dataset_page.pictures(dataset, chosen),
        _damaged(report, dataset),
        _levels(model, dataset) if model is not None else None,
        _batch(source, recipe, model) if recipe is not None and model is not None else None,
    )
    files.write_text(options.output, text)
    print(f"wrote {options.output} ({len(text) / 2**20:.1f} MB): open it in a browser")


def _damaged(
    report: Mapping[str, Any], dataset: "DetectionDataset"
) -> dict[str, Sequence["Shown"]]:
    """Kind of problem -> some images that have it, of those that can be shown."""
    from tfdet.visualization import dataset_page

    position = {str(name): i for i, name in enumerate(dataset.names)}
    return {
        kind: dataset_page.pictures(
            dataset, [position[x] for x in entry["examples"] if x in position][:_OF_A_KIND]
        )
        for kind, entry in report["problems"].items()
    }


def _levels(model: "Detector", dataset: "DetectionDataset") -> "Levels":
    from tfdet.training import level_report, object_levels
    from tfdet.visualization.dataset_page import Levels

    guides = object_levels.guides(model)
    learned = object_levels.object_levels(model, dataset)
    report = level_report.level_report(model, dataset)
    lines = report.lines() if report else []
    if learned is None:
        lines = ["What a level learns is chosen during training, from what is predicted."]
    return Levels(
        model.name,
        model.image_size,
        [(guide.level, guide.stride, guide.words) for guide in guides],
        sorted({ratio for guide in guides for ratio in guide.ratios}),
        learned.sizes if learned else None,
        learned.levels if learned else None,
        lines,
    )


def _batch(source: str, recipe: "Recipe", model: "Detector") -> tuple[str, Sequence["Shown"]]:
    """The first training batch of a recipe: what is in it in words, and its images."""
    from tfdet.data import sources
    from tfdet.training.run_data import RunData
    from tfdet.visualization import dataset_page

    dataset = sources.read_source(source)
    names = recipe.model.get("class_names")
    if names:
        dataset = dataset.with_classes(names, range(1, len(names) + 1))
    size = recipe.train.batch_size
    if len(dataset) < size:
        raise UserError(
            f"{dataset.name} has {counted(len(dataset), 'image')}, fewer than one batch of {size}; "
            "give --hparams=train.batch_size=..."
        )
    run = RunData(recipe, None, dataset, None)
    images, targets = next(iter(run.first_batches(model, 1)))
    shown = dataset_page.batch_pictures(
        images.numpy()[:_BATCH],
        targets["boxes"].numpy()[:_BATCH],
        targets["labels"].numpy()[:_BATCH],
        dataset.class_names,
    )
    height, width = model.image_size
    words = (
        f"{len(shown)} of the {size} images of the first batch as {model.name} is trained with "
        f"them: {width} x {height}, after the recipe's augmentation, seed {recipe.train.seed}."
    )
    return words, shown
