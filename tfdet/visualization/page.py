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

# Nothing is loaded from anywhere, whatever a name in the data may hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_QUALITY = 82


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
    title: str,
    heading: str,
    header: Sequence[object],
    sections: Sequence[Section],
    footer: str,
    style: str = "",
) -> str:
    """The whole page.

    Args:
        title: of the window.
        heading: at the top.
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
        element("header", element("h1", heading), *header),
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


def swatch(label: int) -> Markup:
    """A spot of the colour that a class has in all pictures."""
    colour = "#{:02x}{:02x}{:02x}".format(*draw.class_color(label))
    return element("i", class_="swatch", style=f"background:{colour}")


def class_name(label: int, name: str) -> Markup:
    """The name of a class beside its colour; cut where it is long, whole when pointed at."""
    return element("span", swatch(label), name, class_="name", title=name)


def figure(caption: object, *pictures: Picture, class_: str | None = None) -> Markup:
    """Pictures with one caption; with their sizes, so that the page does not jump."""
    images = [
        element(
            "img", src=one.uri, alt=one.words, width=one.width, height=one.height, loading="lazy"
        )
        for one in pictures
    ]
    return element("figure", element("div", *images), element("figcaption", caption), class_=class_)


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
