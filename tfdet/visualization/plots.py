"""Small plots as SVG, which a page holds without a library: lines, bars, columns.

Colours come from the classes of the page's style sheet, so that they follow light and dark.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tfdet.visualization.markup import Markup, element

_WIDTH, _HEIGHT = 340, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 36


class Series(NamedTuple):
    """A line or some marks: a name, places x and y, and a class of the style sheet.

    A place with y None is left out.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: str = "s1"
    is_marked: bool = False


class Frame:
    """A plot's area with axes, grid and labels.

    Args:
        x_range, y_range: what the axes show.
        x_label, y_label: what they are.
        title: for readers that see no picture.
        height: in units of which the plot is 340 wide.
    """

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_label: str,
        y_label: str,
        title: str,
        height: int = _HEIGHT,
    ):
        self._x_range, self._y_range = _with_extent(x_range), _with_extent(y_range)
        self._height, self._title = height, title
        self._parts: list[Markup] = []
        bottom = height - _BOTTOM
        for value in ticks(*self._y_range):
            y = self.y(value)
            self.add("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
            self.add("text", short(value), x=_LEFT - 5, y=y + 4, class_="end")
        for value in ticks(*self._x_range):
            x = self.x(value)
            self.add("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis")
            self.add("text", short(value), x=x, y=bottom + 16, class_="middle")
        self.add("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis")
        self.add("text", x_label, x=(_LEFT + _WIDTH) / 2, y=height - 4, class_="middle label")
        middle = (_TOP + bottom) / 2
        turned = f"rotate(-90 11 {middle:g})"
        self.add("text", y_label, x=11, y=middle, transform=turned, class_="middle label")

    def x(self, value: float) -> float:
        """Where a value of x is."""
        low, high = self._x_range
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value of y is."""
        low, high = self._y_range
        height = self._height - _TOP - _BOTTOM
        return round(self._height - _BOTTOM - (value - low) / (high - low) * height, 1)

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
        return _svg(_WIDTH, self._height, self._title, self._parts)


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
        frame.add("line", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="marker")
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
        frame.add("line", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="marker")
    return element("div", frame.finished(), class_="plot")


def legend(series: Sequence[Series]) -> Markup | None:
    """The names of several lines beside their colours."""
    if len(series) < 2:
        return None
    entries = [element("span", element("i", class_=f"key {one.style}"), one.name) for one in series]
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


def _svg(width: int, height: int, title: str, parts: Sequence[Markup]) -> Markup:
    box = f"0 0 {width} {height}"
    return element("svg", *parts, viewBox=box, role="img", aria_label=title)
