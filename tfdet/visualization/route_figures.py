"""Routes through a CADDet's grid as pictures: of one image, and of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfdet.backbones.grid import CLOSED, FIRST_LEVEL, PATHS, SupernetConfig
from tfdet.detectors.caddet import CADDet
from tfdet.evaluation import coco, routes
from tfdet.printable import counted, printable
from tfdet.visualization import draw

_HIGHEST = 640  # of a route beside a photograph, in pixels
_SMOOTH = 3  # drawn so much larger and then shrunk
_CELL = (0.72, 1.0)  # width and height of a node's place
_MARGIN = 0.62  # left and right of the grid, for names

_PAPER, _INK = (255, 255, 255), (38, 44, 56)
_ABSENT, _PASSED = (222, 225, 230), (150, 156, 168)
_COLOURS = {"keep": (92, 104, 128), "up": (230, 118, 20), "down": (24, 118, 210)}


def draw_route(config: SupernetConfig, gates: np.ndarray, height: int = 360) -> np.ndarray:
    """The grid with a route: layers from left to right, the finest scale on top.

    A path is as thick as its gate is large, a node as large as its largest gate. What is closed is
    thin and grey; a dotted line is a closed node that hands its input on.

    Args:
        config: of the grid.
        gates: [gates], 0 to 1; for many images, how often each is open.
        height: of the picture; the width follows.

    Returns:
        uint8 [height, W, 3].
    """
    return _Board(config, height).picture(np.asarray(gates, np.float64))


def route_beside(
    picture: np.ndarray, config: SupernetConfig, gates: np.ndarray, macs: float
) -> np.ndarray:
    """A picture of an image's detections, and beside it the route of the image.

    Args:
        picture: uint8 [H, W, 3].
        config, gates: as in `draw_route`.
        macs: cost of the image.

    Returns:
        uint8 [H', W', 3].
    """
    picture, _ = draw.enlarged(picture)
    height = min(picture.shape[0], _HIGHEST)
    ((route, title),) = route_panels(config, [gates], [macs], height)
    return draw.side_by_side([picture, route], ["detections", title])


def route_panels(
    config: SupernetConfig, gates: Any, macs: Any, height: int = 360
) -> list[tuple[np.ndarray, str]]:
    """For each image [B] of a batch the picture of its route, and a title with its cost."""
    return [
        (draw_route(config, one, height), _title(config, one, cost))
        for one, cost in zip(np.asarray(gates), np.asarray(macs), strict=True)
    ]


def diversity_of(model: CADDet, evaluation: coco.Evaluation) -> np.ndarray:
    """The figure `diversity` of the routes that a CADDet took in `coco.Evaluation`."""
    reports, images = evaluation.routes, len(evaluation.routes["index"])
    title = f"{model.name} on {evaluation.dataset.name}, {counted(images, 'image')}"
    compared = routes.traits_of(model, evaluation)
    return diversity(model.config.supernet, reports[model.score], reports["macs"], compared, title)


def diversity(
    config: SupernetConfig,
    gates: np.ndarray,
    macs: np.ndarray,
    traits: Mapping[str, np.ndarray],
    title: str = "",
) -> np.ndarray:
    """A figure of a data set's routes.

    How often each path is open; which gates each image has open, the least expensive image on top;
    how often each cost occurs; and the cost over the last of `traits`.

    Args:
        config: of the grid.
        gates: [N, gates], 0 where closed.
        macs: [N].
        traits: as `evaluation.routes.traits` gives them.
        title: of the figure.

    Returns:
        uint8 [H, W, 3].
    """
    # Not pyplot: it keeps every figure in a global list and chooses a backend for the process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    is_open, cost = gates >= CLOSED, np.asarray(macs, np.float64) / 1e6
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["grid"] * 3, ["gates", "costs", "trait"]])
    _show_frequencies(axes["grid"], config, is_open)
    _show_gates(axes["gates"], config, is_open[np.argsort(cost, kind="stable")])
    axes["costs"].hist(cost, bins=min(30, max(5, len(cost) // 6)), color=_shade(_COLOURS["down"]))
    axes["costs"].axvline(cost.mean(), color="black", linewidth=1)
    axes["costs"].set(xlabel="multiply-adds (M)", ylabel="images")
    axes["costs"].set_title(f"mean {cost.mean():.4g} M, std {cost.std():.3g} M", fontsize=10)
    name, values = list(traits.items())[-1]
    axes["trait"].scatter(values, cost, s=10, alpha=0.5, color=_shade(_COLOURS["up"]))
    axes["trait"].set(xlabel=f"{name} of the image", ylabel="multiply-adds (M)")
    axes["trait"].set_title(f"cost over {name}", fontsize=10)
    figure.suptitle(printable(title), parse_math=False)  # a name may hold dollars
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Board:
    """Where things of a grid are in a picture, and how they look."""

    def __init__(self, config: SupernetConfig, height: int):
        self._config = config
        scales = len(config.channels)
        self._unit = _SMOOTH * height / scales
        columns = config.last + 1
        width = round((columns * _CELL[0] + 2 * _MARGIN) * height / scales)
        self._shown = (width, height)
        self._image = Image.new("RGB", (_SMOOTH * width, _SMOOTH * height), _PAPER)
        self._pen = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(size=self._unit * 0.2)

    def picture(self, gates: np.ndarray) -> np.ndarray:
        is_here = _reached(self._config, gates >= CLOSED)
        self._names()
        # Below all others what is closed, then what is weak.
        lines = [
            (gates[spec.gates][i], spec, path)
            for spec in self._config.nodes
            for i, path in enumerate(spec.paths)
        ]
        for gate, spec, path in sorted(lines, key=lambda line: line[0]):
            self._path(spec, path, gate)
        for spec, here in zip(self._config.nodes, is_here, strict=True):
            largest = gates[spec.gates].max()
            if here and largest < CLOSED and self._config.bypass:
                self._bypass(spec)
            self._node(spec, largest, here)
        return np.asarray(self._image.resize(self._shown, Image.Resampling.LANCZOS))

    def _place(self, layer: float, scale: float) -> tuple[float, float]:
        x = _MARGIN + (layer + 0.5) * _CELL[0]
        return x * self._unit, (scale + 0.5) * _CELL[1] * self._unit

    def _ends(self, spec: Any, path: str) -> tuple[tuple[float, float], tuple[float, float]]:
        last = spec.layer == self._config.last
        after = (spec.layer + (0.85 if last else 1), spec.scale + PATHS[path])
        return self._place(spec.layer, spec.scale), self._place(*after)

    def _line(self, start: Any, end: Any, width: float, colour: tuple[int, ...]) -> None:
        self._pen.line([start, end], fill=colour, width=max(1, round(width * self._unit)))

    def _path(self, spec: Any, path: str, gate: float) -> None:
        ends = self._ends(spec, path)
        if gate < CLOSED:
            self._line(*ends, 0.012, _ABSENT)
        else:
            self._line(*ends, 0.02 + 0.14 * gate, _COLOURS[path])

    def _bypass(self, spec: Any) -> None:
        (x0, y), (x1, _) = self._ends(spec, "keep")
        dots = 7
        for k in range(dots):
            x = x0 + (k + 0.5) * (x1 - x0) / dots
            self._disc((x, y), 0.022, _PASSED)

    def _node(self, spec: Any, largest: float, is_here: bool) -> None:
        place = self._place(spec.layer, spec.scale)
        if largest >= CLOSED:
            self._disc(place, 0.1 + 0.08 * largest, _INK)
        else:
            self._disc(place, 0.085, _PASSED if is_here else _ABSENT)
            self._disc(place, 0.06, _PAPER)

    def _disc(self, place: tuple[float, float], radius: float, colour: tuple[int, ...]) -> None:
        x, y = place
        r = radius * self._unit
        self._pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    def _names(self) -> None:
        """Scales on the left, levels on the right; what colours mean where no node is."""
        config = self._config
        self._line(self._place(-0.45, 0), self._place(0, 0), 0.05, _INK)
        for scale in range(len(config.channels)):
            left, right = f"1/{2 ** (FIRST_LEVEL + scale)}", f"P{FIRST_LEVEL + scale}"
            y = self._place(0, scale)[1]
            self._text((0.08 * self._unit, y), left, _INK, "lm")
            self._text((self._place(config.last + 0.95, 0)[0], y), right, _INK, "lm")
        bottom = len(config.channels) - 1
        for k, (path, colour) in enumerate(_COLOURS.items()):
            x, y = self._place(-0.35, bottom - 0.62 + 0.27 * k)
            self._line((x, y), (x + 0.2 * self._unit, y), 0.07, colour)
            self._text((x + 0.28 * self._unit, y), path, colour, "lm")

    def _text(self, place: Any, text: str, colour: tuple[int, ...], anchor: str) -> None:
        self._pen.text(place, text, fill=colour, font=self._font, anchor=anchor)


def _reached(config: SupernetConfig, is_open: np.ndarray) -> list[bool]:
    """For each node whether anything is sent to it."""
    reached = {(0, 0)}
    for spec in config.nodes:
        if (spec.layer, spec.scale) not in reached:
            continue
        sending = [p for p, sends in zip(spec.paths, is_open[spec.gates], strict=True) if sends]
        if not sending and config.bypass:
            sending = ["keep"]
        reached |= {(spec.layer + 1, spec.scale + PATHS[path]) for path in sending}
    return [(spec.layer, spec.scale) in reached for spec in config.nodes]


def _show_frequencies(axis: Any, config: SupernetConfig, is_open: np.ndarray) -> None:
    axis.imshow(draw_route(config, is_open.mean(axis=0), 720))
    axis.set_axis_off()
    routes = len(np.unique(is_open, axis=0))
    axis.set_title(
        f"{routes} different routes of {len(is_open)} images; thickness: how often a path is open",
        fontsize=10,
    )


def _show_gates(axis: Any, config: SupernetConfig, is_open: np.ndarray) -> None:
    kinds = [path for spec in config.nodes for path in spec.paths]
    colours = np.array([_COLOURS[kind] for kind in kinds], np.uint8)
    table = np.where(is_open[..., None], colours, np.uint8(255))  # [N, gates, 3]
    axis.imshow(table, aspect="auto", interpolation="nearest")
    starts = [spec.first_gate for spec in config.nodes if spec.scale == 0]
    step = max(1, len(starts) // 8)
    axis.set_xticks(starts[::step], range(0, len(starts), step))
    axis.set(xlabel="gates, by layer", ylabel="images, the least expensive on top")
    axis.set_title(f"open gates, {100 * is_open.mean():.0f} % of all", fontsize=10)


def _shade(colour: Sequence[int]) -> tuple[float, ...]:
    return tuple(x / 255 for x in colour)


def _title(config: SupernetConfig, gates: np.ndarray, macs: float) -> str:
    is_open = int((gates >= CLOSED).sum())
    return f"{is_open} of {config.num_gates} gates open, {macs / 1e6:.4g} M multiply-adds"
