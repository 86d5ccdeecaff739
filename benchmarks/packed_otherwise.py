"""What a packed head finds where it is tested otherwise than it was trained.

    python -m benchmarks.packed_otherwise --output=rows.jsonl packed=runs/packed maps=runs/unpacked

Each training folder of a PackDet has a name in front of it. Its last weights are measured on its
validation data:

    packed     all maps in one, as published
    alone      the same, but each map ends at its border: convolutions see zeros there in the place
               of the maps and gaps beside it
    maps       packed, but group norms do not count the cells of the gaps
    joint      map by map, with norms over all maps together
    separate   map by map, each with its own norms

So "alone" lacks nothing of "packed" but what lies beside each map, and "maps" nothing but the gaps
in its norms. Prints a Markdown table and writes a JSON row per folder and way.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from benchmarks.study import statistics
from tfdet import files
from tfdet.data import sources
from tfdet.detectors.fcos import FCOS
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.layers.group_norm import GroupNormalization
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.ops import pack as pack_ops
from tfdet.ops.anchors import level_sizes
from tfdet.tensors import Tensor
from tfdet.training import trained

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_CONFIGS = {
    "packed": {"packed.in_inference": True},
    "joint": {"packed.in_inference": False, "packed.unpacked_norm": "joint"},
    "separate": {"packed.in_inference": False, "packed.unpacked_norm": "separate"},
}
WAYS = ("packed", "alone", "maps", "joint", "separate")


def measured(model_dir: str, way: str) -> dict[str, float]:
    """The COCO numbers, 0 to 100, of a training folder in one of `WAYS`."""
    model = trained.load_trained(model_dir, "last", _CONFIGS.get(way, _CONFIGS["packed"]))
    if not isinstance(model, FCOS) or model.head.stack is None:
        raise UserError(f"{model_dir}: {model.name} is not a PackDet")
    if way in ("alone", "maps"):
        separate(model, way)
    recipe = trained.trained_recipe(model_dir)
    dataset = sources.open_dataset(recipe.data.val)
    found = coco.evaluate(model, dataset, recipe.eval.batch_size)
    return {name: round(100 * found[name], 3) for name in METRICS}


def separate(model: Any, way: str) -> None:
    """Has the packed head of a model take its convolutions or its norms "alone" or by "maps".

    The model is changed, for inference; before it is called for the first time in a function.
    """
    sizes = level_sizes(model.image_size, MIN_LEVEL, MAX_LEVEL)
    layout = pack_ops.layout(sizes, model.config.packed.pattern)
    kind, make = {"alone": (SymmetricConv2D, _alone), "maps": (GroupNormalization, _of_maps)}[way]
    for layer in model.head._flatten_layers():
        if isinstance(layer, kind):
            layer.call = make(layer, layer.call, layout)


def _alone(
    layer: SymmetricConv2D, whole: Callable[[Tensor], Tensor], layout: pack_ops.Layout
) -> Callable[[Tensor], Tensor]:
    """The call of a convolution that takes each map of a packed one alone, and the gaps as ever."""

    def call(inputs: Tensor) -> Tensor:
        if tuple(inputs.shape[1:3]) != (layout.height, layout.width):
            return whole(inputs)  # what makes the extra maps, before they are packed
        outputs = whole(inputs) * (1 - _cells_of_maps(layout))
        for left, top, right, bottom in layout.boxes:
            own = whole(inputs[:, top:bottom, left:right])
            beside = ((top, layout.height - bottom), (left, layout.width - right))
            outputs += ops.pad(own, ((0, 0), *beside, (0, 0)))
        return outputs

    return call


def _of_maps(
    layer: GroupNormalization, whole: Callable[[Tensor], Tensor], layout: pack_ops.Layout
) -> Callable[[Tensor], Tensor]:
    """The call of a norm whose mean and variance leave the gaps out."""

    def call(inputs: Tensor) -> Tensor:
        if tuple(inputs.shape[1:3]) != (layout.height, layout.width):
            return whole(inputs)
        width = inputs.shape[-1] // layer.groups
        x = ops.reshape(inputs, (-1, *inputs.shape[1:3], layer.groups, width))
        share = _cells_of_maps(layout)[..., None] / (_cells_of_maps(layout).sum() * width)
        mean = ops.sum(x * share, (1, 2, 4), keepdims=True)
        variance = ops.sum(ops.square(x - mean) * share, (1, 2, 4), keepdims=True)
        x = (x - mean) * ops.rsqrt(variance + layer.epsilon)
        return ops.reshape(x, (-1, *inputs.shape[1:])) * layer.gamma + layer.beta

    return call


def _cells_of_maps(layout: pack_ops.Layout) -> np.ndarray:
    """[H, W, 1], 1 in the cells of a packed map that belong to a map and 0 in gaps."""
    cells = np.zeros((layout.height, layout.width, 1), np.float32)
    for left, top, right, bottom in layout.boxes:
        cells[top:bottom, left:right] = 1
    return cells


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the mean of the folders of a name in each way, with the deviation of one."""
    lines = [f"| trained | tested | {' | '.join(METRICS)} |", "|---" * (2 + len(METRICS)) + "|"]
    for name, way in dict.fromkeys((row["name"], row["tested"]) for row in rows):
        same = [row for row in rows if (row["name"], row["tested"]) == (name, way)]
        cells = []
        for metric in METRICS:
            mean, spread = statistics.mean_and_spread(dict(enumerate(r[metric] for r in same)))
            cells.append(f"{mean:.1f}" + (f" ± {spread:.1f}" if spread else ""))
        lines.append(f"| {name} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="NAME=MODEL_DIR; several may share a name")
    parser.add_argument("--output", type=pathlib.Path, help="JSON rows go to this file")
    options = parser.parse_args(argv)
    if any("=" not in word for word in options.folders):
        parser.error("each folder needs a name in front of it, such as packed=runs/packed")
    rows = []
    try:
        for name, folder in (word.split("=", 1) for word in options.folders):
            for way in WAYS:
                print(f"{folder}: {way}", flush=True)
                rows.append({"name": name, "run": pathlib.Path(folder).parent.name, "tested": way})
                rows[-1] |= measured(folder, way)
    except UserError as error:
        raise SystemExit(f"benchmarks.packed_otherwise: {error}") from None
    if options.output:
        files.write_text(options.output, "".join(f"{json.dumps(row)}\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
