"""HTML and SVG from Python, in which a text can be no markup."""

import html
from collections.abc import Iterable

from tfdet.printable import printable

_EMPTY = {"img", "meta", "link", "rect", "line", "circle", "polyline"}


class Markup(str):
    """A text that is markup already; every other text is escaped where it is put into markup."""


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element as markup.

    Args:
        name: such as "p".
        content: texts, which are escaped, and `Markup`; lists of both; None is left out.
        attributes: `class_` is "class", and `_` stands for `-`; those that are None are left out.
    """
    pairs = "".join(
        f' {key.strip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not content:
        return Markup(f"<{name}{pairs}/>")
    return Markup(f"<{name}{pairs}>{joined(*content)}</{name}>")


def joined(*content: object) -> Markup:
    """Texts and markup one after the other, see `element`."""
    return Markup("".join(_parts(content)))


def _parts(content: Iterable[object]) -> Iterable[str]:
    for part in content:
        if isinstance(part, Markup):
            yield part
        elif isinstance(part, (list, tuple)):
            yield from _parts(part)
        elif part is not None:
            yield _escaped(part)


def _escaped(value: object) -> str:
    return html.escape(printable(str(value)))
