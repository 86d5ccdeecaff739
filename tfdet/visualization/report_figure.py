"""Pictures with their captions on the report's page."""

from collections.abc import Sequence

from tfdet.visualization.markup import Markup, element
from tfdet.visualization.report_pictures import Picture, Shown


def note(words: object) -> Markup:
    """What a figure means, in a sentence or two."""
    return element("p", words, class_="note")


def single(picture: Picture, caption: str) -> Markup:
    """One picture."""
    return _figure([picture], caption, None)


def side_by_side(shown: Shown, caption: str) -> Markup:
    """An image with its truth and its detections."""
    return _figure([shown.truth, shown.detections], caption, "pair")


def _figure(pictures: Sequence[Picture], caption: str, class_: str | None) -> Markup:
    images = [
        element(
            "img", src=one.uri, alt=one.words, width=one.width, height=one.height, loading="lazy"
        )
        for one in pictures
    ]
    return element("figure", element("div", *images), element("figcaption", caption), class_=class_)
