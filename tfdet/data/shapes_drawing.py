"""Paints the pictures of the built-in `shapes` set with Pillow."""

import io

import numpy as np
from PIL import Image, ImageDraw

_OVERSAMPLING = 2  # drawn larger and reduced: Pillow's polygons have jagged edges


def draw(layout, image_size: int, rng: np.random.Generator) -> bytes:
    """PNG of a `shapes.Picture`, image_size x image_size; the ground is random in `rng`."""
    side = image_size * _OVERSAMPLING
    ground = rng.uniform(60, 215) + rng.uniform(-28, 28, 3)
    canvas = _background(side, ground, layout.difficulty, rng)
    _draw_clutter(canvas, ground, layout.difficulty, rng)
    for shape in layout.shapes:
        _draw_shape(canvas, shape)
    file = io.BytesIO()
    canvas.reduce(_OVERSAMPLING).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _background(side, ground, difficulty, rng) -> Image.Image:
    """Soft patches of light around the ground colour, stronger in hard pictures."""
    patches = 2 + int(6 * difficulty)
    spread = 10 + 26 * difficulty
    grid = ground + rng.uniform(-spread, spread, (patches, patches, 1)) + rng.uniform(-8, 8, 3)
    coarse = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def _draw_clutter(canvas, ground, difficulty, rng) -> None:
    """Strokes and arcs, none of them a shape of the classes."""
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.binomial(30, 0.8 * difficulty)):
        colour = tuple(int(v) for v in np.clip(ground + rng.uniform(-60, 60, 3), 0, 255))
        x, y = rng.uniform(0, canvas.width, 2)
        width = int(rng.integers(2, 7))
        if rng.random() < 0.5:
            dx, dy = rng.uniform(-70, 70, 2)
            pen.line([(x, y), (x + dx, y + dy)], fill=colour, width=width)
        else:
            radius, start = rng.uniform(10, 50), rng.uniform(0, 360)
            around = [x - radius, y - radius, x + radius, y + radius]
            pen.arc(around, start, start + rng.uniform(60, 200), fill=colour, width=width)


def _draw_shape(canvas, shape) -> None:
    """A soft shadow, the body lit from above, and a darker rim."""
    outline = shape.outline * _OVERSAMPLING
    extent = outline.max(axis=0) - outline.min(axis=0)
    points = [tuple(p) for p in outline]
    shadow = [tuple(p) for p in outline + 0.04 * extent.max()]
    ImageDraw.Draw(canvas, "RGBA").polygon(shadow, fill=(0, 0, 0, 56))

    corner = np.floor(outline.min(axis=0)).astype(int)
    width, height = (int(v) + 2 for v in np.ceil(extent))
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon([tuple(p) for p in outline - corner], fill=255)
    light = np.linspace(1.12, 0.80, 8)[:, None, None] * np.array(shape.colour)
    body = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    body = body.resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(body, tuple(corner), mask)

    rim = tuple(int(0.55 * v) for v in shape.colour)
    rim_width = max(2, int(0.02 * extent.max()))
    ImageDraw.Draw(canvas).line([*points, points[0]], fill=rim, width=rim_width, joint="curve")
