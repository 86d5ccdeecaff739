"""Drawings for the systems' pages; `python docs/hooks/drawings.py` writes docs/pictures/*.svg."""

import pathlib

from tfdet.ops.pack_layout import layout, map_levels

PICTURES = pathlib.Path(__file__).parents[1] / "pictures"
LEVELS = ("#0f766e", "#0ea5a4", "#65a30d", "#ca8a04", "#c2410c")  # of P3 to P7
INK, PAPER, PALE = "#1f2933", "#ffffff", "#e4ecec"
_BOX = (108, 34)


def svg(width: int, height: int, *parts: str) -> str:
    """A picture on a white ground, so that it can be read on a dark page too."""
    marker = (
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="{INK}"/></marker>'
        "</defs>"
    )
    ground = f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    head += f' viewBox="0 0 {width} {height}"'
    style = ' font-family="sans-serif" font-size="14"'
    return f"{head}{style}>{marker}{ground}{''.join(parts)}</svg>\n"


def box(x: float, y: float, text: str, fill: str = PALE, size: tuple[float, float] = _BOX) -> str:
    """A box with its middle at (x, y); dark ones have white letters."""
    w, h = size
    ink = INK if fill in (PALE, PAPER) else PAPER
    lines = text.split("\n")
    rows = "".join(
        f'<text x="{x}" y="{y + 5 + 17 * (i - (len(lines) - 1) / 2)}" text-anchor="middle" '
        f'fill="{ink}">{line}</text>'
        for i, line in enumerate(lines)
    )
    place = f'x="{x - w / 2}" y="{y - h / 2}" width="{w}" height="{h}" rx="5"'
    return f'<rect {place} fill="{fill}" stroke="{INK}"/>{rows}'


def arrow(x0: float, y0: float, x1: float, y1: float, bend: float = 0.0) -> str:
    """An arrow, bent to the side by so many pixels."""
    mx, my = (x0 + x1) / 2, (y0 + y1) / 2 - bend
    path = f"M{x0},{y0} Q{mx},{my} {x1},{y1}"
    return (
        f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.4" marker-end="url(#tip)"/>'
    )


def note(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{INK}">{text}</text>'


def bifpn() -> str:
    """One cell: top-down, then bottom-up, with the input once more in the middle levels."""
    columns, small = (70, 230, 390), (64, 34)
    rows = {level: 60 + 62 * (7 - level) for level in range(3, 8)}
    parts = [
        note(x, 25, text) for x, text in zip(columns, ("input", "top-down", "output"), strict=True)
    ]
    for level, y in rows.items():
        color = LEVELS[level - 3]
        parts.append(box(columns[0], y, f"P{level}", color, small))
        if 3 < level < 7:
            parts += [
                box(columns[1], y, f"P{level}", color, small),
                arrow(columns[0] + 32, y, columns[1] - 34, y),
                arrow(columns[1] + 32, y, columns[2] - 34, y),
                arrow(columns[0] + 32, y - 8, columns[2] - 34, y - 8, bend=42),
            ]
        else:
            parts.append(arrow(columns[0] + 32, y, columns[2] - 34, y))
        parts.append(box(columns[2], y, f"P{level}", color, small))
    parts.append(arrow(columns[0] + 32, rows[7] + 6, columns[1] - 20, rows[6] - 19))
    for level in (6, 5):
        parts.append(arrow(columns[1], rows[level] + 17, columns[1], rows[level - 1] - 19))
    parts.append(arrow(columns[1] + 10, rows[4] + 17, columns[2] - 34, rows[3] - 6))
    for level in (3, 4, 5, 6):
        parts.append(arrow(columns[2], rows[level] - 17, columns[2], rows[level + 1] + 19))
    return svg(460, 345, *parts)


def packed() -> str:
    """Pattern 4 of an image of 256x384, as the code lays it out."""
    sizes = [(32 >> i, 48 >> i) for i in range(5)]
    found, scale = layout(sizes, 4), 8
    parts = [
        f'<rect x="10" y="10" width="{found.width * scale}" height="{found.height * scale}" '
        f'fill="{PALE}"/>'
    ]
    for (x0, y0, x1, y1), level in zip(found.boxes, map_levels(4), strict=True):
        w, h = (x1 - x0) * scale, (y1 - y0) * scale
        x, y = 10 + x0 * scale, 10 + y0 * scale
        parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{LEVELS[level]}" '
            f'stroke="{PAPER}"/>'
        )
        if min(w, h) > 30:
            label = (
                f'<text x="{x + w / 2}" y="{y + h / 2 + 5}" text-anchor="middle" fill="{PAPER}">'
            )
            parts.append(f"{label}P{level + 3}</text>")
    frame = parts[0].replace(f'fill="{PALE}"', f'fill="none" stroke="{INK}"')
    return svg(found.width * scale + 20, found.height * scale + 20, *parts, frame)


def cascade() -> str:
    y, z = 60, 170
    return svg(
        740,
        230,
        box(70, y, "image", PAPER),
        box(230, y, "backbone 1", LEVELS[0]),
        box(400, y, "router", LEVELS[3]),
        box(640, y, "neck and head 1", LEVELS[1], (150, 34)),
        box(230, z, "backbone 2", LEVELS[0]),
        box(640, z, "neck and head 2", LEVELS[1], (150, 34)),
        arrow(124, y, 174, y),
        arrow(284, y, 344, y),
        arrow(454, y, 563, y),
        note(508, y - 10, "easy"),
        arrow(400, y + 17, 284, z - 8),
        note(375, z - 45, "hard", "start"),
        arrow(215, y + 17, 215, z - 19),
        note(205, (y + z) / 2 + 4, "features", "end"),
        arrow(284, z, 563, z),
    )


def detr() -> str:
    y = 55
    return svg(
        760,
        190,
        box(70, y, "image", PAPER),
        box(215, y, "backbone", LEVELS[0]),
        box(370, y, "encoder", LEVELS[1]),
        box(530, y, "decoder", LEVELS[1]),
        box(685, y, "100 boxes\nor no object", LEVELS[3], (120, 44)),
        box(530, 150, "100 queries", PALE),
        box(370, 150, "positions", PALE),
        arrow(124, y, 159, y),
        arrow(269, y, 314, y),
        arrow(424, y, 474, y),
        arrow(584, y, 623, y),
        arrow(530, 133, 530, y + 19),
        arrow(370, 133, 370, y + 19),
    )


DRAWINGS = {"bifpn": bifpn, "packed_map": packed, "cascade": cascade, "detr": detr}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (PICTURES / f"{name}.svg").write_text(draw())
