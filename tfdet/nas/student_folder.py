"""Detectors of a search as training folders, which all other commands take."""

import dataclasses
import pathlib
from typing import Any

from tfdet import config, files, records
from tfdet.errors import UserError
from tfdet.nas import evaluator
from tfdet.nas import weights as nas_weights
from tfdet.nas.candidates import Candidate, Table
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.teacher_pool import TeacherPool
from tfdet.training import trained, trainer


def write_folder(
    folder: str | pathlib.Path, model: Any, recipe: config.Recipe, command: str = ""
) -> pathlib.Path:
    """Writes a detector as tfdet-train would leave it.

    Args:
        folder: made if need be.
        model: the detector.
        recipe: its data, training and evaluation are written down, with the name of its model; the
            rest of the model's section is this model's own.
        command: what the user typed.
    """
    folder = pathlib.Path(folder)
    section = {"name": recipe.model["name"], **records.to_dict(model.config)}
    try:
        trained.save_student(model, dataclasses.replace(recipe, model=section), folder, command)
    except (files.NotWritten, OSError) as error:
        raise UserError(
            f"{folder} could not be written ({error}); the search is kept: make room and "
            "give the same command again"
        ) from None
    return folder


def write_student(
    recipe: SearchRecipe, table: Table, number: int, folder: pathlib.Path, command: str = ""
) -> Any:
    """Writes a candidate as a training folder; the detector."""
    if number not in table:
        raise UserError(f"there is no candidate {number}; the search has {len(table)}, from 0 on")
    candidate = table[number]
    base = evaluator.load_base(recipe)
    student = nas_weights.rebuild(base, candidate.net, table.weights(number), candidate.image_size)
    write_folder(folder, student, _recipe_of(recipe, recipe.train), command)
    return student


def finetune(
    recipe: SearchRecipe, table: Table, number: int, folder: pathlib.Path, command: str = ""
) -> pathlib.Path:
    """Trains a candidate with its teacher as `recipe.finetune` says; the folder of the result.

    It resumes where it was killed.

    Args:
        recipe, table: of the search.
        number: the candidate.
        folder: of the search; gets `student_0012`, `teacher_0012` and `finetuned_0012`.
        command: what the user typed.
    """
    start, end = folder / f"student_{number:04d}", folder / f"finetuned_{number:04d}"
    student = write_student(recipe, table, number, start, command)
    settings = dataclasses.replace(recipe.finetune, pretrained=str(start))
    if recipe.search.distil and recipe.teacher:
        place = folder / f"teacher_{number:04d}"
        source = _teacher_folder(recipe, student, table[number], place)
        settings = records.replace(settings, {"distill.teacher": str(source)})
    section = trained.trained_recipe(start).model
    trainer.train(
        dataclasses.replace(_recipe_of(recipe, settings), model=section), end, True, command
    )
    return end


def _teacher_folder(
    recipe: SearchRecipe, student: Any, candidate: Candidate, folder: pathlib.Path
) -> str | pathlib.Path:
    """The folder of a candidate's teacher; one that is cut out of a super-network is written."""
    if candidate.subnet is None:
        return recipe.teacher
    allow_smaller = recipe.train.additions["distill"].allow_smaller
    pool = TeacherPool.load(recipe.teacher)
    teacher = pool.teacher_for(student, candidate.subnet, allow_smaller)
    made_with = trained.trained_recipe(recipe.teacher)
    settings = records.replace(made_with.train, {"elastic": None})
    return write_folder(folder, teacher, dataclasses.replace(made_with, train=settings))


def _recipe_of(recipe: SearchRecipe, settings: config.TrainConfig) -> config.Recipe:
    model = {"name": trained.trained_recipe(recipe.base).model["name"]}
    return config.Recipe(model, recipe.data, settings, recipe.eval)
