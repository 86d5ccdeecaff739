"""Times CADDet's grid that skips what is closed against the one that computes everything.

    python -m benchmarks.caddet                          640x800, batches of one and of eight
    python -m benchmarks.caddet --image_size=320,320 --figure=speed.png --json_out=speed.json

What is timed is backbone and neck, as the paper counts them, as graphs with constants such as an
export has. The routers run as ever; each of their gates, all of which are open, is multiplied by 1
or 0 of a random route. In a batch every image has a route of its own. The dense graph is that of
the layers, with what Grappler folds; it takes the same gates and multiplies with their zeros. All
are timed in turn, and a ratio is the median over the rounds of its ratio within the round.

Costs are parts of the dense multiply-adds of backbone and neck; a route is asked for by its part of
the grid's. Prints Markdown tables; --figure draws latency over cost.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from benchmarks import timing
from tfdet import profiling, registry
from tfdet.backbones.grid import PATHS, SupernetConfig
from tfdet.backbones.grid_inference import skip_closed
from tfdet.backbones.supernet import Supernet
from tfdet.detectors.grid_cost import GridCost
from tfdet.necks.fpn import FPN
from tfdet.serving import network

# Parts of the grid; 0.56 is the paper's average.
SHARES = (0.0, 0.2, 0.4, 0.56, 0.7, 0.85, 1.0)
PAPER_SHARE = 0.56
# How far the cost of a random route may be from the one that was asked for.
TOLERANCE = 0.01
# The part of its open nodes' paths that a random route opens.
OPEN_PATHS = 0.75


class Steered(Supernet):
    """A grid all of whose nodes are computed, and whose gates can be closed."""

    wanted: Any = None

    def steered(self, images: tf.Tensor, wanted: tf.Tensor) -> dict[str, tf.Tensor]:
        """The maps, where gates are closed if `wanted` [B, gates] is 0."""
        self.wanted = wanted
        maps = self(images, training=False)
        self.wanted = None
        return maps

    def gates_of(self, number: int, *args: Any) -> Any:
        gates = super().gates_of(number, *args)
        if self.wanted is None:
            return gates
        return gates * self.wanted[:, self.config.nodes[number].gates]


class Network:
    """Backbone and neck in both forms, and what they cost.

    Attributes:
        cost: of the grid.
        floor: multiply-adds of stem and neck.
        forms: functions of (images, wanted) by name.
    """

    def __init__(self, name: str, changes: Mapping[str, Any]):
        keras.utils.set_random_seed(0)
        self.config = registry.config(name, **changes)
        self.size = self.config.image_size
        self.grid = Steered(self.config.supernet)
        self.neck = FPN(self.config.fpn_width, kind=self.config.neck)
        self.neck({k: v for k, v in self.grid(tf.zeros((1, 64, 64, 3))).items() if k != "gates"})
        _make_lively(self.grid)
        self.cost = GridCost.of(self.config.supernet, self.size)
        self.floor = profiling.profile_config(name, self.config).routes["floor"]
        gates = tf.TensorSpec([None, self.config.supernet.num_gates])
        specs = tf.TensorSpec([None, *self.size, 3]), gates
        self.forms = {
            "dense": self._compiled(self.grid.steered, specs),
            "skipping": self._compiled(
                lambda images, wanted: skip_closed(self.grid, images, factors=wanted), specs
            ),
        }

    def _compiled(self, form: Callable[[Any, Any], Any], specs: Any) -> Callable[..., Any]:
        def run(images: tf.Tensor, wanted: tf.Tensor) -> dict[str, tf.Tensor]:
            maps = form(images, wanted)
            gates = maps.pop("gates")
            return {**self.neck(maps), "gates": gates}

        # The dense form has no branches, for which it makes no difference.
        graph = network.frozen(run, *specs, inline_branches=True)
        return tf.function(graph, input_signature=specs)

    def part(self, routes: np.ndarray) -> float:
        """The mean cost of routes [B, gates], as a part of the dense one."""
        grid = float(np.mean(self.cost.hard(routes))) * self.cost.total
        return (self.floor + grid) / (self.floor + self.cost.total)


def _make_lively(grid: Supernet) -> None:
    """Batch norms as after training: statistics of what they see, and factors other than 1.

    With them no number folds away, and none grows from layer to layer. The routers' scores are near
    their bias, so that all gates are open and stay so.
    """
    rng = np.random.default_rng(3)
    for router in grid.routers:
        router.score.kernel.assign(1e-3 * np.asarray(router.score.kernel))
    # Not those of the routers, which see means of noise: numbers that hardly differ.
    for layer in (x for part in (*grid.stem, *grid.nodes) for x in part._flatten_layers()):
        if hasattr(layer, "moving_mean"):
            layer.gamma.assign(rng.uniform(0.7, 1.3, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
            layer.momentum = 0.0
    grid(tf.random.stateless_normal((4, 256, 256, 3), (1, 1)), training=True)


def random_route(
    config: SupernetConfig, cost: GridCost, share: float, rng: np.random.Generator
) -> np.ndarray:
    """[gates] of 0 and 1: a random route that costs about `share` of the grid.

    Only what is reached is open: a router is not asked about a map that nobody sent.
    """
    if share in (0.0, 1.0):
        return np.full(config.num_gates, share, np.float32)
    open_nodes = share
    while True:
        route = _route(config, open_nodes, rng)
        found = float(cost.hard(route[None])[0])
        if abs(found - share) < TOLERANCE:
            return route
        open_nodes = float(np.clip(open_nodes + 0.1 * (share - found), 0.01, 1.0))


def _route(config: SupernetConfig, open_nodes: float, rng: np.random.Generator) -> np.ndarray:
    route = np.zeros(config.num_gates, np.float32)
    reached = {0}
    for _, layer in itertools.groupby(config.nodes, lambda node: node.layer):
        sent = set()
        for node in layer:
            if node.scale not in reached:
                continue
            if rng.random() < open_nodes:
                paths = rng.random(len(node.paths)) < OPEN_PATHS
                paths[rng.integers(len(paths))] = True
                route[node.gates] = paths
                sent |= {node.scale + PATHS[path] for path in np.array(node.paths)[paths]}
            else:
                sent.add(node.scale)  # the bypass
        reached = sent
    return route


def measure(net: Network, batch: int, routes: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of cost, milliseconds per image and ratio to the dense graph in the same rounds."""
    rng = np.random.default_rng(batch)
    images = tf.random.stateless_normal((batch, *net.size, 3), (0, 0))
    tables = {}
    for share in SHARES:
        for i in range(1 if share in (0.0, 1.0) else routes):
            rows = [random_route(net.config.supernet, net.cost, share, rng) for _ in range(batch)]
            tables[f"{share:g}/{i}"] = np.stack(rows)
    everything = np.ones_like(next(iter(tables.values())))
    _check(net, images, tables)
    runs = {"dense": lambda: net.forms["dense"](images, everything)}
    runs |= {
        name: lambda table=table: net.forms["skipping"](images, table)
        for name, table in tables.items()
    }
    seconds = timing.paired(runs, repeats)
    dense = seconds["dense"]
    return [
        {
            "share": float(name.partition("/")[0]) if name != "dense" else 1.0,
            "form": "dense" if name == "dense" else "skipping",
            "cost": net.part(tables.get(name, everything)),
            "ms": 1e3 * statistics.median(times) / batch,
            "ratio": statistics.median(a / b for a, b in zip(times, dense, strict=True)),
        }
        for name, times in seconds.items()
    ]


def _check(net: Network, images: tf.Tensor, tables: Mapping[str, np.ndarray]) -> None:
    """Both forms must give the same for a route of middle cost, and open what was asked for."""
    table = tables[f"{PAPER_SHARE:g}/0"]
    dense, skipping = (net.forms[name](images, table) for name in ("dense", "skipping"))
    np.testing.assert_array_equal(skipping["gates"].numpy() > 0, table > 0)
    for name, values in dense.items():
        scale = float(tf.reduce_max(tf.abs(values)))
        np.testing.assert_allclose(skipping[name], values, atol=1e-4 * scale, err_msg=name)


def criteria(results: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is wanted of the speed, beside what was measured; medians over the routes."""

    def ratio(batch: str, share: float) -> float:
        rows = [r for r in results[batch] if r["form"] == "skipping" and r["share"] == share]
        return statistics.median(row["ratio"] for row in rows)

    found = []
    for batch, rows in results.items():
        half = [r for r in rows if r["form"] == "skipping" and r["share"] == PAPER_SHARE]
        throughput = statistics.median(row["cost"] / row["ratio"] for row in half)
        found += [
            {"batch": batch, "what": "all open, of dense", "value": ratio(batch, 1.0)},
            {"batch": batch, "what": "56 % of the grid, of dense", "value": ratio(batch, 0.56)},
            {
                "batch": batch,
                "what": "56 % of the grid, of all open",
                "value": ratio(batch, 0.56) / ratio(batch, 1.0),
            },
            {
                "batch": batch,
                "what": "its throughput, of what its cost allows",
                "value": throughput,
            },
        ]
    return found


def draw(results: Mapping[str, list[dict[str, Any]]], title: str, path: str) -> None:
    """Latency over cost, a panel per batch size."""
    figure, panels = plt.subplots(1, len(results), figsize=(5 * len(results), 3.8), squeeze=False)
    for panel, (batch, rows) in zip(panels[0], results.items(), strict=True):
        dense, *others = rows
        panel.plot(
            [row["cost"] for row in others], [row["ms"] for row in others], "o", label="routes"
        )
        panel.axhline(dense["ms"], color="gray", linestyle="--", label="dense")
        panel.plot([0, 1], [0, dense["ms"]], ":", color="gray", label="proportional to cost")
        words = f"batch {batch}" + ("" if batch == "1" else ", a route per image")
        panel.set(title=words, xlabel="cost, part of dense", ylabel="ms per image")
        panel.set(xlim=(0, 1.05), ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="caddet-fcos", help="a registered CADDet")
    parser.add_argument("--image_size", default="640,800", help="height,width")
    parser.add_argument("--batches", default="1,8", help="batch sizes")
    parser.add_argument("--routes", type=int, default=3, help="random routes, or sets, per cost")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json_out", help="file for the figures")
    parser.add_argument("--figure", help="file for the plot (.png)")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    height, width = map(int, options.image_size.split(","))
    net = Network(options.model, {"image_size": (height, width)})
    title = f"{options.model} at {height}x{width}, backbone and neck"
    print(f"{title}; {timing.machine()}")
    results = {}
    for batch in options.batches.split(","):
        rows = results[batch] = measure(net, int(batch), options.routes, options.repeats)
        print(f"\nbatch {batch}\n\n| form | cost | ms per image | of dense |\n|---|---|---|---|")
        for row in sorted(rows, key=lambda row: (row["form"], row["cost"])):
            print(f"| {row['form']} | {row['cost']:.3f} | {row['ms']:.1f} | {row['ratio']:.3f} |")
    wanted = criteria(results)
    print("\n| batch | what | measured |\n|---|---|---|")
    for row in wanted:
        print(f"| {row['batch']} | {row['what']} | {row['value']:.3f} |")
    if options.figure:
        draw(results, title, options.figure)
    if options.json_out:
        facts = {"title": title, "machine": timing.machine(), "rows": results, "criteria": wanted}
        with open(options.json_out, "w") as file:
            file.write(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
