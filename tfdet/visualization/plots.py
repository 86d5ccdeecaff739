"""Small plots as SVG, which a page holds without a library: lines, bars, columns.

Colours come from the classes of the page's style sheet, so that they follow light and dark.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tfdet.visualization.markup import Markup, element

_WIDTH, _HEIGHT = 340, 220
_LEFT, _RIGHT, _TOP, _FLOOR = 52, 10, 12, 184
_LETTER = 6.5  # width of a letter


class Series(NamedTuple):
    """A line or some marks: a name, places x and y, and a class of the style sheet.

    A place with y None is left out.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: str = "s1"
    is_marked: bool = False


class Stack(NamedTuple):
    """A part of each column: its name, a count for each column, and a class of the style sheet."""

    name: str
    counts: Sequence[int]
    style: str


class Frame:
    """A plot's area with axes, grid and labels.

    Args:
        x_range, y_range: what the axes show.
        x_label, y_label: what they are.
        title: for readers that see no picture.
        labels: of columns that are 1 wide in x, in the place of a grid and numbers.
    """

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_label: str,
        y_label: str,
        title: str,
        labels: Sequence[str] | None = None,
    ):
        self._x_range, self._y_range = _with_extent(x_range), _with_extent(y_range)
        self._title = title
        self._parts: list[Markup] = []
        if labels is None:
            self._add_grid()
        else:
            self._add_labels(labels)
        self.add("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_FLOOR, y2=_FLOOR, class_="axis")
        self.add("text", x_label, x=(_LEFT + _WIDTH) / 2, y=_HEIGHT - 4, class_="middle label")
        middle = (_TOP + _FLOOR) / 2
        turned = f"rotate(-90 11 {middle:g})"
        self.add("text", y_label, x=11, y=middle, transform=turned, class_="middle label")

    def _add_grid(self) -> None:
        for value in ticks(*self._y_range):
            y = self.y(value)
            self.add("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
            self.add("text", short(value), x=_LEFT - 5, y=y + 4, class_="end")
        for value in ticks(*self._x_range):
            x = self.x(value)
            self.add("line", x1=x, x2=x, y1=_FLOOR, y2=_FLOOR + 4, class_="axis")
            self.add("text", short(value), x=x, y=_FLOOR + 16, class_="middle")

    def _add_labels(self, labels: Sequence[str]) -> None:
        """The ends of y, and as many labels as have room."""
        for value in self._y_range:
            self.add("text", short(value), x=_LEFT - 5, y=self.y(value) + 4, class_="end")
        longest = max(map(len, labels), default=1)
        room = max(1, int((_WIDTH - _LEFT - _RIGHT) / (_LETTER * longest + 8)))
        for i in range(0, len(labels), max(1, -(-len(labels) // room))):
            self.add("text", labels[i], x=self.x(i + 0.5), y=_FLOOR + 16, class_="middle")

    def x(self, value: float) -> float:
        """Where a value of x is."""
        low, high = self._x_range
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value of y is."""
        low, high = self._y_range
        return round(_FLOOR - (value - low) / (high - low) * (_FLOOR - _TOP), 1)

    def add(self, name: str, *content: object, **attributes: object) -> None:
        """Adds an element of SVG."""
        self._parts.append(element(name, *content, **attributes))

    def draw(self, series: Series) -> None:
        """Adds a line, and marks with their values."""
        points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
        places = " ".join(f"{self.x(x):g},{self.y(y):g}" for x, y in points)
        self.add("polyline", points=places, class_=f"line {series.style}")
        for x, y in points if series.is_marked else ():
            note = element("title", f"{series.name}: {short(x)}, {short(y)}")
            self.add(
                "circle", note, cx=self.x(x), cy=self.y(y), r=3.5, class_=f"dot {series.style}"
            )

    def finished(self) -> Markup:
        """The plot as SVG."""
        box = f"0 0 {_WIDTH} {_HEIGHT}"
        return element("svg", *self._parts, viewBox=box, role="img", aria_label=self._title)


def lines(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    title: str,
    x_range: tuple[float, float] = (0, 1),
    y_range: tuple[float, float] = (0, 1),
    marked_x: float | None = None,
) -> Markup:
    """Lines over an axis, with a legend where there are several.

    Args:
        series: the lines.
        x_label, y_label, title, x_range, y_range: see `Frame`.
        marked_x: where an upright line stands.
    """
    frame = Frame(x_range, y_range, x_label, y_label, title)
    if marked_x is not None:
        x = frame.x(marked_x)
        frame.add("line", x1=x, x2=x, y1=_TOP, y2=_FLOOR, class_="marker")
    for one in series:
        frame.draw(one)
    return element("div", frame.finished(), legend(series), class_="plot")


def columns(
    edges: Sequence[float],
    counts: Sequence[float],
    x_label: str,
    y_label: str,
    title: str,
    marked_x: float | None = None,
) -> Markup:
    """A histogram.

    Args:
        edges: [n + 1].
        counts: [n].
        x_label, y_label, title: see `Frame`.
        marked_x: where an upright line stands.
    """
    frame = Frame((edges[0], edges[-1]), (0, max([*counts, 1])), x_label, y_label, title)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, right, top = frame.x(low), frame.x(high), frame.y(count)
        note = element("title", f"{short(low)} to {short(high)}: {short(count)}")
        width, height = max(round(right - left - 1, 1), 1), round(frame.y(0) - top, 1)
        frame.add("rect", note, x=left + 0.5, y=top, width=width, height=height, class_="bar s1")
    if marked_x is not None:
        x = frame.x(marked_x)
        frame.add("line", x1=x, x2=x, y1=_TOP, y2=_FLOOR, class_="marker")
    return element("div", frame.finished(), class_="plot")


def stacked(
    labels: Sequence[str], stacks: Sequence[Stack], x_label: str, y_label: str, title: str
) -> Markup:
    """Columns of several parts, with a legend.

    Args:
        labels: what each column is for.
        stacks: from the bottom to the top.
        x_label, y_label, title: see `Frame`.
    """
    most = max([1, *map(sum, zip(*(one.counts for one in stacks), strict=True))])
    frame = Frame((0, len(labels)), (0, most), x_label, y_label, title, labels=labels)
    unit = (_FLOOR - _TOP) / most
    for i, label in enumerate(labels):
        left, right, total = frame.x(i), frame.x(i + 1), 0
        for one in stacks:
            count = one.counts[i]
            total += count
            if count:
                note = element("title", f"{label}: {one.name} {short(count)}")
                place = {"x": round(left + 1, 1), "y": frame.y(total)}
                width, height = max(right - left - 2, 1), max(count * unit, 0.5)
                size = {"width": round(width, 1), "height": round(height, 1)}
                frame.add("rect", note, **place, **size, class_=f"bar {one.style}")
    return element("div", frame.finished(), legend(stacks), class_="plot")


def legend(parts: Sequence[Series] | Sequence[Stack]) -> Markup | None:
    """The names of several lines, or parts of columns, beside their colours."""
    if len(parts) < 2:
        return None
    entries = [element("span", element("i", class_=f"key {one.style}"), one.name) for one in parts]
    return element("div", *entries, class_="legend")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from `low` to `high`, at most about `most` of them."""
    import math

    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * x for x in (1, 2, 2.5, 5, 10) if power * x >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number in few letters."""
    if abs(value) >= 1000 and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _with_extent(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    return (low, high) if high > low else (low - 0.5, low + 0.5)
