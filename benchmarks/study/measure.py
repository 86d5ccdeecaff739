"""One run of a study: its trainings, one after the other, and what the model came to.

    python -m benchmarks.study.measure FOLDER

FOLDER holds plan_1.yaml, plan_2.yaml, ..., the recipes of the steps, which are trained in step_1,
step_2, ... as `tfdet-train` does, and resumed there. It gets result.json: the `values` of the last
step's model, numbers by name, and what is more than a number beside them.
"""

import json
import pathlib
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import tfdet
from benchmarks.study import usual_route
from tfdet import config, documents, files
from tfdet.detectors.caddet import CADDet
from tfdet.evaluation import cascade_tradeoff, coco, routes
from tfdet.nas import evaluator, search, search_recipe, student_folder, workers
from tfdet.training import trained, trainer

RESULT = "result.json"
_MEASURED_EVERY = 20.0


def run(folder: pathlib.Path) -> None:
    """Trains what is left to train in a run's folder, as it stands above, and measures."""
    attempt = len(list(folder.glob("cpu_*.json"))) + 1
    threading.Thread(target=_count, args=(folder / f"cpu_{attempt}.json",), daemon=True).start()
    extra: dict[str, float] = {}
    for plan in sorted(folder.glob("plan_*.yaml")):
        model_dir = folder / plan.stem.replace("plan", "step")
        if "search" in documents.read_yaml(plan, "recipe"):
            model_dir, extra = _search(plan, model_dir)
        else:
            trainer.train(config.load_recipe(plan), model_dir)
    result = measured(model_dir)
    result["values"].update(extra)
    _write_time(folder / f"cpu_{attempt}.json")
    spent = [json.loads(path.read_text()) for path in folder.glob("cpu_*.json")]
    result["values"]["cpu_minutes"] = round(sum(spent) / 60, 2)
    files.write_text(folder / RESULT, json.dumps({**result, "model_dir": str(model_dir)}) + "\n")


def _search(plan: pathlib.Path, folder: pathlib.Path) -> tuple[pathlib.Path, dict[str, float]]:
    """Searches and fine-tunes the best candidate; its folder, and its values before that.

    Subnets of a pool are measured as the search found them: nothing is trained.
    """
    recipe = search_recipe.make_search_recipe([str(plan)])
    evaluator.prepare_process(recipe)
    table = search.search(
        recipe, folder, lambda: workers.ThisProcess(workers.make_evaluator(recipe))
    )
    best = search.pool(recipe, list(table.values()))[0]
    if recipe.search.space == "pool":
        end = folder / f"student_{best.number:04d}"
        student_folder.write_student(recipe, table, best.number, end)
    else:
        end = student_folder.finetune(recipe, table, best.number, folder)
    return end, {"search_AP": round(100 * best.ap, 4), "search_score": round(best.score, 4)}


def measured(model_dir: pathlib.Path) -> dict[str, Any]:
    """What the model of a training folder came to.

    Returns:
        "values": of every model the COCO numbers, 0 to 100, "parameters" and "macs" (millions) and
        the last "loss" of its training, where there was one; of a CADDet macs of backbone and neck,
        an image's mean, how its routes differ, its "soft_cost" and how that goes with the intervals
        of sizes, "soft_intervals" (Spearman's correlation), and "usual_AP" and "usual_macs" where
        all images take the usual one; of a cascade AP of both detectors and what its router, random
        routing and the oracle gain over interpolating between the two, and how the router's scores
        go with what is in the images, "easiness_objects" and the like. "routes",
        "tradeoff": all of that; "gains", "easiness": of each validation image what its second
        detector gains in loss, and its router's score.
    """
    model = trained.load_trained(model_dir, "last")
    recipe = trained.trained_recipe(model_dir)
    dataset = tfdet.open_dataset(recipe.data.val)
    history = model_dir / "logs" / "history.jsonl"
    if history.is_file():
        last = json.loads(history.read_text().splitlines()[-1])
    else:  # cut out of a trained one
        last = coco.evaluate(model, dataset, recipe.eval.batch_size)
    profile = tfdet.profile(model)
    values = {name: 100 * last[name] for name in coco.METRICS if last.get(name, -1) >= 0}
    values |= {"parameters": profile.parameters / 1e6, "macs": profile.macs / 1e6}
    values |= {"loss": last["loss"]} if "loss" in last else {}
    result: dict[str, Any] = {"values": values}
    if isinstance(model, CADDet):
        evaluation = coco.Evaluation(model, dataset, recipe.eval.batch_size)
        evaluation.run()
        result["routes"] = facts = routes.facts_of(model, evaluation)
        values.update(_of_routes(facts))
        if model.is_dynamic:
            values.update(_of_soft_costs(model, evaluation))
            values.update(_on_usual_route(model, evaluation))
    elif model.is_dynamic:
        paths = cascade_tradeoff.BothPaths(model, dataset, recipe.eval.batch_size).run()
        result["tradeoff"] = found = cascade_tradeoff.trade_off(model, paths)
        values.update(_of_tradeoff(found))
        values["easiness_std"] = paths.easiness.std()
        values |= _of_easiness(
            paths.easiness, routes.traits(dataset, paths.index, model.image_size)
        )
        for name in ("gains", "easiness"):
            result[name] = [round(float(x), 4) for x in getattr(paths, name)]
    result["values"] = {name: round(float(value), 4) for name, value in values.items()}
    return result


def _of_routes(facts: dict[str, Any]) -> dict[str, float]:
    macs = {"macs" if k == "mean" else f"macs_{k}": v / 1e6 for k, v in facts["macs"].items()}
    parts = {name: 100 * facts[name] for name in ("open_gates", "dead_gates")}
    counts = {name: facts[name] for name in ("routes", "hamming", "gates")}
    related = {
        f"{kind}_{trait}": value
        for trait, both in facts["correlation"].items()
        for kind, value in both.items()
        if value is not None
    }
    scales = {node["scale"] for node in facts["nodes"]}
    nodes = {scale: [n["open"] for n in facts["nodes"] if n["scale"] == scale] for scale in scales}
    open_nodes = {f"open_P{3 + scale}": 100 * sum(x) / len(x) for scale, x in nodes.items()}
    return {**macs, **parts, **counts, **related, **open_nodes}


def _of_soft_costs(model: CADDet, evaluation: coco.Evaluation) -> dict[str, float]:
    """What budgets pull at: the mean soft cost, and whether it follows the intervals of sizes."""
    soft = 100 * np.asarray(model.soft_cost(evaluation.routes[model.score]))
    intervals = routes.traits_of(model, evaluation)["intervals"]
    related = routes.correlations(intervals, soft.astype(np.float64))["spearman"]
    return {"soft_cost": soft.mean(), **({} if related is None else {"soft_intervals": related})}


def _on_usual_route(model: CADDet, evaluation: coco.Evaluation) -> dict[str, float]:
    """What the model comes to without routes of the images' own; the model is changed."""
    usual_route.take(model, usual_route.usual(evaluation.routes[model.score]))
    metrics = evaluation.run().result()
    return {"usual_AP": 100 * metrics["AP"], "usual_macs": evaluation.costs["macs"] / 1e6}


def _of_easiness(easiness: np.ndarray, traits: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Whether a router's scores follow what can be seen in the images: Spearman's correlations."""
    found = {
        f"easiness_{name}": routes.correlations(values, easiness.astype(np.float64))["spearman"]
        for name, values in traits.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _of_tradeoff(found: dict[str, Any]) -> dict[str, float]:
    ends = {
        f"{name}_{key}": scale * one[key]
        for name, one in found["static"].items()
        for key, scale in (("AP", 100), ("macs", 1e-6))
    }
    gains = {f"gain_{name}": 100 * value for name, value in found["above_line"].items()}
    return {**ends, **gains}


def _count(path: pathlib.Path) -> None:
    """Writes the processor time of this process every so often, until it is killed."""
    while True:
        time.sleep(_MEASURED_EVERY)
        _write_time(path)


def _write_time(path: pathlib.Path) -> None:
    files.write_text(path, f"{time.process_time():.1f}\n")


if __name__ == "__main__":
    run(pathlib.Path(sys.argv[1]))
