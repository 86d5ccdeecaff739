"""Detections as pictures that people read."""

import colorsys
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, PngImagePlugin

from tfdet import files
from tfdet.ops import masks as mask_ops
from tfdet.visualization import captions, letters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GOLDEN_RATIO = 0.618034
_LEGIBLE_SIDE = 360  # pixels
_TINT = 0.5
# As many boxes have captions of full size; of more they shrink, down to a part of it.
_FEW, _LEAST_ZOOM = 10, 0.6
_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)
WRITER = "tfdet"  # stands in pictures, so that a command knows its own


def class_color(label: int) -> tuple[int, int, int]:
    """An RGB colour for a label, the same in every picture; neighbours differ clearly."""
    # Steps of the golden ratio spread the hues evenly however many classes there are.
    hue = (0.02 + label * _GOLDEN_RATIO) % 1.0
    lightness = (0.5, 0.62, 0.4)[label % 3]
    return tuple(round(255 * x) for x in colorsys.hls_to_rgb(hue, lightness, 0.9))


def draw_boxes(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    notes: Sequence[str] | None = None,
    dashed: np.ndarray | None = None,
) -> np.ndarray:
    """Draws boxes with names (and scores) on a copy of an image.

    In a crowd letters and frames are smaller, and a caption that finds no room beside those of
    surer boxes is left out; each class keeps one at least.

    Args:
        image: [H, W, 3], uint8 or float 0–255, RGB.
        boxes_xyxy: [N, 4] in pixels of the image.
        labels: [N]; rows with -1 are left out.
        class_names: by label.
        scores: [N], or None for ground truth, which gets names alone.
        notes: N texts behind the names and the scores.
        dashed: bool [N], which frames are dashed.

    Returns:
        uint8 [H, W, 3].
    """
    picture = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    rows = [i for i in range(len(labels)) if labels[i] >= 0]
    # Not the shorter side: a panorama is looked at as a whole, too.
    side = math.prod(picture.size) ** 0.5
    side *= max(_LEAST_ZOOM, min(1.0, (_FEW / max(len(rows), 1)) ** 0.5))
    unit, letter_size = max(1, round(side / 330)), max(10, round(side / 31))
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    for i in reversed(rows):  # the surest last, so that its frame is on top
        is_dashed = dashed is not None and bool(dashed[i])
        _draw_frame(draw, boxes[i], class_color(int(labels[i])), unit, is_dashed)
    places = captions.Places(picture.size, boxes[rows], 2 * unit)
    named: set[int] = set()
    for i in rows:  # the surest first, so that its caption gets the best place
        label = int(labels[i])
        caption, font = letters.written(class_names[label], letter_size, f"class {label}")
        if scores is not None:
            caption += f" {float(scores[i]):.2f}"
        if notes is not None and notes[i]:
            caption += f" {notes[i]}"
        pad = 2 * unit + 1
        _, _, width, height = draw.textbbox((0, 0), caption, font=font, anchor="lt")
        place = places.take(boxes[i], (width + 2 * pad, height + 2 * pad), label not in named)
        if place is not None:
            named.add(label)
            _draw_caption(draw, place, pad, caption, class_color(label), font)
    return np.asarray(picture)


def draw_masks(
    image: np.ndarray, boxes_xyxy: np.ndarray, labels: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """Tints the pixels of objects on a copy of an image, and draws a light line inside their edges.

    Args:
        image, boxes_xyxy, labels: as in `draw_boxes`.
        masks: [N, h, w], probabilities in the frames of the boxes.

    Returns:
        uint8 [H, W, 3].
    """
    picture = np.clip(np.asarray(image), 0, 255).astype(np.uint8)
    for box, label, mask in reversed(list(zip(boxes_xyxy, labels, masks, strict=True))):
        if label >= 0:
            pixels = mask_ops.paste(np.asarray(mask), np.asarray(box), picture.shape[:2])
            picture = tint(picture, pixels, int(label))
    return picture


def tint(picture: np.ndarray, pixels: np.ndarray, label: int) -> np.ndarray:
    """A copy of a picture in which one object has the colour of its class and a light edge.

    Args:
        picture: uint8 [H, W, 3].
        pixels: bool [H, W], of the object.
        label: of its class.
    """
    tinted = picture.copy()
    colour = np.array(class_color(label), np.float32)
    tinted[pixels] = picture[pixels] + _TINT * (colour - picture[pixels])
    tinted[_edge(pixels, max(1, round(min(pixels.shape) / 500)))] = _LIGHT
    return tinted


def _edge(pixels: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask [H, W] less than `width` away from others, or from the frame."""
    framed = Image.fromarray(np.pad(pixels, width).astype(np.uint8))
    inner = np.asarray(framed.filter(ImageFilter.MinFilter(2 * width + 1)), bool)
    return pixels & ~inner[width:-width, width:-width]


def legible_zoom(picture: np.ndarray) -> int:
    """How many times a small picture must be enlarged for captions not to cover it.

    A long and narrow one only as far as its longer side stays within a screen.
    """
    low, high = min(picture.shape[:2]), max(picture.shape[:2])
    return max(1, min(round(_LEGIBLE_SIDE / low), 4 * _LEGIBLE_SIDE // high))


def enlarged(image: np.ndarray) -> tuple[np.ndarray, int]:
    """An image [H, W, 3] as large as captions need it, and how many times it was enlarged."""
    zoom = legible_zoom(image)
    return np.asarray(image).repeat(zoom, axis=0).repeat(zoom, axis=1), zoom


def side_by_side(panels: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Puts pictures next to each other under their titles; uint8 [H, W, 3].

    Lower ones stand in the middle of the highest.
    """
    height = max(panel.shape[0] for panel in panels)
    gap = max(2, panels[0].shape[1] // 64)
    font = ImageFont.load_default(size=max(10, height // 18))
    head = 2 * int(font.size)
    width = sum(panel.shape[1] + gap for panel in panels) - gap
    sheet = Image.new("RGB", (width, height + head), _LIGHT)
    draw = ImageDraw.Draw(sheet)
    left = 0
    for panel, title in zip(panels, titles, strict=True):
        draw.text((left + gap, head // 2), title, fill=_DARK, font=font, anchor="lm")
        top = head + (height - panel.shape[0]) // 2
        sheet.paste(Image.fromarray(np.asarray(panel, np.uint8)), (left, top))
        left += panel.shape[1] + gap
    return np.asarray(sheet)


def grid(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Puts pictures of any size into a grid of equal cells, row by row; uint8 [H, W, 3]."""
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    gap = max(4, width // 64)
    sheet = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8
    )
    for i, picture in enumerate(pictures):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def comparison(
    images: Sequence[np.ndarray],
    truth: Mapping[str, Any],
    detections: Mapping[str, Any],
    class_names: Sequence[str],
    threshold: float = 0.3,
    columns: int = 2,
    panels: Sequence[tuple[np.ndarray, str]] = (),
) -> np.ndarray:
    """A grid of images, each twice: with its ground truth, and with what was detected.

    Small images are enlarged, since captions would cover them otherwise.

    Args:
        images: [B, H, W, 3], 0–255.
        truth: "boxes" [B, M, 4] and "labels" [B, M], as in a batch's targets; "masks" where there
            are any, here and in the detections.
        detections: as `Detector.decode` returns them, in pixels of `images`.
        threshold: detections below this score are not drawn.
        columns: of the grid.
        panels: for each image one more picture, with its title.
    """
    rows = []
    for i, image in enumerate(images):
        image, zoom = enlarged(image)
        boxes, scores, labels, count = (
            np.asarray(detections[key])[i] for key in ("boxes", "scores", "labels", "count")
        )
        sure = np.flatnonzero(scores[:count] >= threshold)
        wanted, names = np.asarray(truth["boxes"])[i], np.asarray(truth["labels"])[i]
        expected = found = image
        if "masks" in truth:
            expected = draw_masks(image, zoom * wanted, names, np.asarray(truth["masks"])[i])
        if "masks" in detections:
            masks = np.asarray(detections["masks"])[i, sure]
            found = draw_masks(image, zoom * boxes[sure], labels[sure], masks)
        expected = draw_boxes(expected, zoom * wanted, names, class_names)
        found = draw_boxes(found, zoom * boxes[sure], labels[sure], class_names, scores[sure])
        row = [(expected, "ground truth"), (found, "detections"), *panels[i : i + 1]]
        rows.append(side_by_side(*zip(*row, strict=True)))
    return grid(rows, columns)


def save_picture(path: str | pathlib.Path, picture: np.ndarray, writer: str = WRITER) -> None:
    """Writes a picture, PNG or JPEG by the ending of its name, all or nothing.

    Args:
        path: of the file.
        picture: uint8 [H, W, 3].
        writer: stands in the file, see `writer_of`.
    """
    # Not straight to the disk: Pillow takes no notice of a part that did not fit there.
    facts, content = PngImagePlugin.PngInfo(), io.BytesIO()
    facts.add_text("Software", writer)
    kind = Image.registered_extensions()[pathlib.Path(path).suffix.lower()]
    image = Image.fromarray(picture)
    image.save(content, kind, quality=92, pnginfo=facts, comment=writer.encode())
    files.write_bytes(path, content.getbuffer())


def save_figure(path: str | pathlib.Path, figure: "Figure") -> None:
    """Writes a figure of matplotlib as a PNG, all or nothing."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": WRITER})
    files.write_bytes(path, content.getbuffer())


def writer_of(path: str | pathlib.Path) -> str:
    """The program that wrote a PNG or JPEG, by its own metadata; "" where it has none."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            said = image.info.get("Software", image.info.get("comment", ""))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _draw_frame(
    draw: Any, box: np.ndarray, color: tuple[int, ...], unit: int, is_dashed: bool
) -> None:
    # A dark and a light line around the coloured one: seen on any background.
    left, top, right, bottom = (float(x) for x in box)
    right, bottom = max(right, left), max(bottom, top)
    for margin, ink, width in ((2, _DARK, 1), (1, _LIGHT, 1), (0, color, 2)):
        margin *= unit
        outer = (left - margin, top - margin, right + margin, bottom + margin)
        if is_dashed and ink == color:
            _draw_dashes(draw, outer, color, width * unit)
        else:
            draw.rectangle(outer, outline=ink, width=width * unit)


def _draw_dashes(draw: Any, frame: tuple[float, ...], color: tuple[int, ...], width: int) -> None:
    left, top, right, bottom = frame
    dash = 4 * width
    for start in np.arange(left, right, 2 * dash):
        end = min(start + dash, right)
        draw.rectangle((start, top, end, top + width - 1), fill=color)
        draw.rectangle((start, bottom - width + 1, end, bottom), fill=color)
    for start in np.arange(top, bottom, 2 * dash):
        end = min(start + dash, bottom)
        draw.rectangle((left, start, left + width - 1, end), fill=color)
        draw.rectangle((right - width + 1, start, right, end), fill=color)


def _draw_caption(
    draw: Any, place: captions.Place, pad: int, text: str, color: tuple[int, ...], font: Any
) -> None:
    draw.rectangle(place, fill=color, outline=_DARK)
    ink = _DARK if np.dot(color, (0.299, 0.587, 0.114)) > 110 else _LIGHT
    draw.text((place[0] + pad, place[1] + pad), text, fill=ink, font=font, anchor="lt")
