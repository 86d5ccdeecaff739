"""Times PackOp as its paper does: packed, packed before the clock starts, and branch by branch.

    python -m benchmarks.packop                    the paper's sweeps (an hour or so on two cores)
    python -m benchmarks.packop --quick            three points per sweep, one image (minutes)
    python -m benchmarks.packop --op_only          the op alone against other ways to pack

The pyramid of an 800x800 image with a second map of the three coarsest levels lies in pattern 2; a
head of T blocks (3x3 convolution with bias, group norm with 32 groups, ReLU) of C channels runs
over it. T, C and the scale of the maps vary one at a time. Forward, and forward with backward.

Prints Markdown tables; --output keeps them as JSON beside three plots.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from benchmarks import timing
from tfdet.ops import pack as pack_ops
from tfdet.ops import pack_native

SIDES = (100, 50, 25, 13, 7)
PATTERN = 2
SWEEPS = {
    "T": (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    "C": (32, 64, 128, 256, 512),
    "scale": (2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6, 0.4),
}
QUICK_SWEEPS = {"T": (4, 10, 16), "C": (32, 64, 128), "scale": (1.4, 1.0, 0.4)}
DEFAULTS = {"T": 10, "C": 128, "scale": 1.0}
REPEATS_IN_GRAPH = 8

Maps = Sequence[tf.Tensor]


def layout_at(scale: float) -> pack_ops.Layout:
    return pack_ops.layout([(int(side * scale), int(side * scale)) for side in SIDES], PATTERN)


def maps_of(layout: pack_ops.Layout, batch: int, channels: int) -> list[tf.Tensor]:
    return [tf.random.normal((batch, h, w, channels)) for h, w in layout.sizes]


# ------------------------------------------------------------------------------------ the op alone


def _flat_indices(layout: pack_ops.Layout) -> np.ndarray:
    """Cell of the packed map, y * W + x, of every cell of the maps, map after map."""
    cells = np.arange(layout.height * layout.width).reshape(layout.height, layout.width)
    return np.concatenate([cells[y0:y1, x0:x1].ravel() for x0, y0, x1, y1 in layout.boxes])


def _batch_indices(layout: pack_ops.Layout, batch: int) -> np.ndarray:
    flat = np.tile(_flat_indices(layout), batch)
    return np.stack([np.repeat(np.arange(batch), len(flat) // batch), flat], axis=1)


def _rows(maps: Maps) -> tf.Tensor:
    """All cells of all maps, [B, cells, C]."""
    batch, channels = maps[0].shape[0], maps[0].shape[3]
    return tf.concat([tf.reshape(x, (batch, -1, channels)) for x in maps], axis=1)


def ways_to_pack(
    layout: pack_ops.Layout, batch: int, channels: int
) -> dict[str, Callable[[Maps], tf.Tensor]]:
    """Every way gives the same packed map."""
    cells = layout.height * layout.width
    packed_shape = (batch, layout.height, layout.width, channels)
    indices = tf.constant(_batch_indices(layout, batch), tf.int32)
    flat = _flat_indices(layout)
    inverse = np.full(cells, len(flat), np.int32)  # gaps read the row of zeros behind the maps
    inverse[flat] = np.arange(len(flat))
    variable = tf.Variable(tf.zeros((batch, cells, channels)))

    def scatter_nd_update(maps: Maps) -> tf.Tensor:
        # The form of the paper's TensorFlow version. The variable's gaps stay zero for ever.
        variable.scatter_nd_update(indices, tf.reshape(_rows(maps), (-1, channels)))
        return tf.reshape(variable.read_value(), packed_shape)

    def tensor_scatter_nd_update(maps: Maps) -> tf.Tensor:
        zeros = tf.zeros((batch, cells, channels))
        values = tf.reshape(_rows(maps), (-1, channels))
        return tf.reshape(tf.tensor_scatter_nd_update(zeros, indices, values), packed_shape)

    def gather(maps: Maps) -> tf.Tensor:
        rows = tf.concat([_rows(maps), tf.zeros((batch, 1, channels))], axis=1)
        return tf.reshape(tf.gather(rows, inverse, axis=1), packed_shape)

    def add_padded(maps: Maps) -> tf.Tensor:
        return tf.add_n(
            [
                tf.pad(x, ((0, 0), (y0, layout.height - y1), (x0, layout.width - x1), (0, 0)))
                for (x0, y0, x1, y1), x in zip(layout.boxes, maps, strict=True)
            ]
        )

    return {
        "native op": lambda maps: pack_native.pack(maps, layout),
        "portable op (concatenation)": lambda maps: pack_ops.pack_portable(maps, layout),
        "pad + concat of rows": lambda maps: pad_and_concat(maps, layout),
        "concat + gather": gather,
        "sum of padded maps": add_padded,
        "tensor_scatter_nd_update": tensor_scatter_nd_update,
        "scatter_nd_update": scatter_nd_update,
    }


def pad_and_concat(maps: Maps, layout: pack_ops.Layout) -> tf.Tensor:
    """Level 0 above one padded row per column of maps; pattern 2 only."""
    top = layout.boxes[0][3]
    height = layout.height - top
    columns = [maps[1]]
    for first, second in zip(maps[2:5], maps[5:8], strict=True):
        above = layout.boxes[5][1] - top - first.shape[1]
        below = height - first.shape[1] - above - second.shape[1]
        gaps = (
            tf.pad(x, ((0, 0), (0, n), (0, 0), (0, 0)))
            for x, n in ((first, above), (second, below))
        )
        columns.append(tf.concat([*gaps], axis=1))
    row = tf.concat(columns, axis=2)
    right = layout.width - row.shape[2]
    return tf.concat([maps[0], tf.pad(row, ((0, 0), (0, 0), (0, right), (0, 0)))], axis=1)


def repeated(op: Callable[[Maps], tf.Tensor], maps: Maps) -> Callable[[], object]:
    """The op several times in one graph, so that the cost of calling a graph does not count."""

    @tf.function(autograph=False)
    def run(maps: Maps) -> tf.Tensor:
        seen: list[tf.Tensor] = []
        packed = []
        for _ in range(REPEATS_IN_GRAPH):
            with tf.control_dependencies(packed[-1:]):
                packed.append(op(maps))
            # One number is used of each: what nobody uses would not be run.
            seen.append(packed[-1][0, 0, 0, 0])
        return tf.add_n(seen)

    return lambda: run(maps)


def time_op(batch: int, channels: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each way to pack, and of copying the packed map."""
    layout = layout_at(1.0)
    maps = maps_of(layout, batch, channels)
    ways = ways_to_pack(layout, batch, channels)
    packed = pack_ops.pack_portable(maps, layout)
    for name, way in ways.items():
        if not bool(tf.reduce_all(way(maps) == packed)):
            raise AssertionError(f"{name} does not pack as the portable op does")
    if not pack_ops.native_is_available():
        del ways["native op"]
    ways["copy of the packed map"] = lambda maps: tf.raw_ops.DeepCopy(x=packed)
    runs = {name: repeated(way, maps) for name, way in ways.items()}
    seconds = timing.interleaved(runs, repeats)
    return {name: 1e3 * value / REPEATS_IN_GRAPH for name, value in seconds.items()}


def print_op(times: Mapping[str, float]) -> None:
    ours = times.get("native op", times["portable op (concatenation)"])
    print("\n| way to pack | ms | times the op |\n|---|---|---|")
    for name, value in times.items():
        print(f"| {name} | {value:.3f} | {value / ours:.2f} |")


# -------------------------------------------------------------------------------------- the sweeps


def head(depth: int, channels: int) -> keras.Sequential:
    blocks = []
    for _ in range(depth):
        blocks += [
            keras.layers.Conv2D(channels, 3, padding="same"),
            keras.layers.GroupNormalization(32, epsilon=1e-5),
            keras.layers.ReLU(),
        ]
    return keras.Sequential([keras.Input((None, None, channels)), *blocks])


def head_runs(
    depth: int, channels: int, scale: float, batch: int, backward: bool
) -> dict[str, Callable[[], object]]:
    """The three ways to run the head over the maps."""
    layout, network = layout_at(scale), head(depth, channels)
    maps = maps_of(layout, batch, channels)
    already_packed = [pack_ops.pack(maps, layout)]
    ways = {
        "packed": lambda maps: [network(pack_ops.pack(maps, layout))],
        "packed without the op": lambda maps: [network(maps[0])],
        "branch by branch": lambda maps: [network(x) for x in maps],
    }
    inputs = dict.fromkeys(ways, maps) | {"packed without the op": already_packed}

    def compiled(way: Callable[[Maps], Any]) -> tf.types.experimental.PolymorphicFunction:
        @tf.function(autograph=False)
        def run(maps: Maps) -> Any:
            if not backward:
                return [tf.reduce_max(x) for x in way(maps)]
            with tf.GradientTape() as tape:
                tape.watch(maps)
                total = tf.add_n([tf.reduce_sum(x) for x in way(maps)])
            return [
                tf.reduce_max(x) for x in tape.gradient(total, [*maps, *network.trainable_weights])
            ]

        return run

    functions = {name: compiled(way) for name, way in ways.items()}
    return {name: (lambda f=f, x=inputs[name]: f(x)) for name, f in functions.items()}


def sweep(
    parameter: str, points: Sequence[float], batch: int, repeats: int, backward: bool
) -> list[dict[str, float]]:
    """A row of milliseconds per point."""
    rows = []
    for point in points:
        setting = {**DEFAULTS, parameter: point}
        runs = head_runs(setting["T"], setting["C"], setting["scale"], batch, backward)
        times = timing.interleaved(runs, repeats)
        rows.append({parameter: point, **{name: 1e3 * value for name, value in times.items()}})
        gain = rows[-1]["branch by branch"] / rows[-1]["packed"]
        cells = " | ".join(f"{rows[-1][name]:.0f}" for name in runs)
        print(f"| {point} | {cells} | {gain:.2f} |", flush=True)
    return rows


def draw(rows: Mapping[str, list[dict[str, float]]], parameter: str, path: pathlib.Path) -> None:
    """One panel per direction; a curve per way."""
    figure, panels = plt.subplots(1, len(rows), figsize=(4.5 * len(rows), 3.4), squeeze=False)
    for panel, (title, points) in zip(panels[0], rows.items(), strict=True):
        for name in list(points[0])[1:]:
            x, y = [row[parameter] for row in points], [row[name] for row in points]
            panel.plot(x, y, marker="o", label=name)
        panel.set(title=title, xlabel=parameter, ylabel="ms", ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run_sweeps(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    directions = {"forward": False, "forward and backward": True}
    for parameter, points in (QUICK_SWEEPS if options.quick else SWEEPS).items():
        results[parameter] = {}
        for title, backward in directions.items():
            print(
                f"\n{title}, ms\n\n| {parameter} | packed | packed without the op | "
                "branch by branch | gain |\n|---|---|---|---|---|"
            )
            results[parameter][title] = sweep(
                parameter, points, options.batch, options.repeats, backward
            )
        if options.output:
            draw(results[parameter], parameter, options.output / f"packop_{parameter}.png")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three points per sweep")
    parser.add_argument("--op_only", action="store_true", help="no sweeps")
    parser.add_argument("--batch", type=int, help="images (default 2, the paper's; 1 if quick)")
    parser.add_argument(
        "--repeats", type=int, help="timed runs (default 30, the paper's; 3 if quick)"
    )
    parser.add_argument("--output", type=pathlib.Path, help="folder for results and plots")
    options = parser.parse_args()
    options.batch = options.batch or (1 if options.quick else 2)
    options.repeats = options.repeats or (3 if options.quick else 30)
    form = "native" if pack_ops.native_is_available() else "portable"
    print(f"{timing.machine()}; {form} op, batch {options.batch}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": timing.machine(), "form": form, "batch": options.batch}
    results["op"] = time_op(2, DEFAULTS["C"], max(options.repeats, 15))
    print_op(results["op"])
    if not options.op_only:
        results["sweeps"] = run_sweeps(options)
    if options.output:
        (options.output / "packop.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
