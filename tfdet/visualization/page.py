"""The frame of a page that needs nothing else: no network, no script, no other file.

Styles are those of `report_files/report.css`; pictures stand in the page as data URIs.
"""

import base64
import importlib.resources
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfdet.visualization import draw
from tfdet.visualization.markup import Markup, element
from tfdet.visualization.plots import Series, legend, short

# Nothing is loaded from anywhere, whatever a name in the data may hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_QUALITY = 82
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 340, 220, 42, 12, 12, 36
_LETTER = 6.5  # width of a letter, in units of the plot


class Picture(NamedTuple):
    """An image as JPEG in a data URI, with its size and what it shows in words."""

    uri: str
    width: int
    height: int
    words: str


class Section(NamedTuple):
    """A part of a page: its name in links, its title, and what it holds."""

    name: str
    title: str
    content: Sequence[object]


def document(
    title: str, header: Sequence[object], sections: Sequence[Section], footer: str, style: str = ""
) -> str:
    """The whole page.

    Args:
        title: of the window, and the heading.
        header: below the heading.
        sections: in order, with links to them at the top.
        footer: a sentence at the end.
        style: CSS besides that of `report.css`.
    """
    sheet = importlib.resources.files("tfdet.visualization").joinpath("report_files", "report.css")
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(sheet.read_text("utf-8") + style)),
    ]
    links = [element("a", one.title, href=f"#{one.name}") for one in sections]
    parts = [
        element("section", element("h2", one.title), *one.content, id=one.name) for one in sections
    ]
    body = [
        element("header", element("h1", title), *header),
        element("nav", *links),
        element("main", *parts),
        element("footer", footer),
    ]
    whole = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!doctype html>\n{whole}\n"


def note(*words: object) -> Markup:
    """What a figure means, in a sentence or two."""
    return element("p", *words, class_="note")


def tiles(shown: Sequence[tuple[str, str]]) -> Markup:
    """Large numbers, each with what it counts."""
    each = [
        element("div", element("strong", value), element("span", words), class_="tile")
        for value, words in shown
    ]
    return element("div", *each, class_="tiles")


def table(head: Sequence[object], rows: Sequence[Sequence[object]], class_: str = "") -> Markup:
    """A table that can be moved sideways where the screen is narrow; numbers are on the right."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", x) for x in row[1:]))
        for row in rows
    ]
    whole = element("table", element("thead", top), element("tbody", *body), class_=class_ or None)
    return element("div", whole, class_="wide", tabindex="0")


def meter(value: float, most: float = 1.0) -> Markup:
    """A bar as long as a value from 0 to `most`."""
    width = max(0.0, min(1.0, value / most if most > 0 else 0.0))
    return element("span", element("i", style=f"width:{100 * width:.1f}%"), class_="meter")


def class_name(label: int, name: str) -> Markup:
    """The name of a class beside its colour; cut where it is long, whole when pointed at."""
    colour = "#{:02x}{:02x}{:02x}".format(*draw.class_color(label))
    swatch = element("i", class_="swatch", style=f"background:{colour}")
    return element("span", swatch, name, class_="name", title=name)


def figure(picture: Picture, caption: object) -> Markup:
    """A picture with a caption."""
    image = element(
        "img",
        src=picture.uri,
        alt=picture.words,
        width=picture.width,
        height=picture.height,
        loading="lazy",
    )
    return element("figure", element("div", image), element("figcaption", caption))


def fitted(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """An image whose longer side has about `side` pixels, and its scale."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize(size, way)), scale


def encoded(pixels: np.ndarray, words: str) -> Picture:
    """A picture uint8 [H, W, 3] as it stands in the page, with what it shows in words."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=_QUALITY)
    text = base64.b64encode(content.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return Picture(f"data:image/jpeg;base64,{text}", width, height, words)


class Stack(NamedTuple):
    """A part of each column: its name, a count for each column, and a class of the style sheet."""

    name: str
    counts: Sequence[int]
    style: str


def stacked(
    labels: Sequence[str], stacks: Sequence[Stack], x_label: str, y_label: str, title: str
) -> Markup:
    """Columns of several parts.

    Args:
        labels: what each column is for.
        stacks: from the bottom to the top.
        x_label, y_label: of the axes.
        title: for readers that see no picture.
    """
    most = max([1, *map(sum, zip(*(one.counts for one in stacks), strict=True))])
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    bottom, unit = _HEIGHT - _BOTTOM, (_HEIGHT - _TOP - _BOTTOM) / most
    parts = [
        element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis"),
        element("text", short(most), x=_LEFT - 5, y=_TOP + 4, class_="end"),
        element("text", "0", x=_LEFT - 5, y=bottom + 4, class_="end"),
        element("text", x_label, x=(_LEFT + _WIDTH) / 2, y=_HEIGHT - 4, class_="middle label"),
    ]
    middle = (_TOP + bottom) / 2
    turned = f"rotate(-90 11 {middle:g})"
    parts.append(element("text", y_label, x=11, y=middle, transform=turned, class_="middle label"))
    room = max(1, int((_WIDTH - _LEFT - _RIGHT) / (_LETTER * max(map(len, labels), default=1) + 8)))
    every = -(-len(labels) // room)
    for i, label in enumerate(labels):
        left, top = _LEFT + i * step, bottom
        if i % every == 0:
            x = round(left + step / 2, 1)
            parts.append(element("text", label, x=x, y=bottom + 16, class_="middle"))
        for one in stacks:
            height = one.counts[i] * unit
            if one.counts[i]:
                top -= height
                words = element("title", f"{label}: {one.name} {short(one.counts[i])}")
                place = {"x": round(left + 1, 1), "y": round(top, 1)}
                size = {"width": round(max(step - 2, 1), 1), "height": round(max(height, 0.5), 1)}
                parts.append(element("rect", words, **place, **size, class_=f"bar {one.style}"))
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    drawn = element("svg", *parts, viewBox=box, role="img", aria_label=title)
    names = legend([Series(one.name, (), (), one.style) for one in stacks])
    return element("div", drawn, names, class_="plot")
