"""What `tfdet-infer` shows of an image or a frame: facts for JSON, and a picture."""

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdet.serving.driver import Driver
    from tfdet.serving.stream import Found


def show(
    driver: "Driver", found: "Found", options: types.SimpleNamespace
) -> tuple[dict[str, Any], Any]:
    """The size, costs and detections as plain data, and a picture uint8 [H, W, 3].

    Args:
        driver: that detected.
        found: with an image.
        options: `min_score` and `draw_routes` of the command.
    """
    from tfdet.detectors.dynamic import reported
    from tfdet.visualization import draw, route_figures

    assert found.detections is not None and found.image is not None
    image = found.image
    values = {name: x[0] for name, x in found.detections.items()}
    count = values["count"]
    keep = values["scores"][:count] >= options.min_score
    boxes, scores, labels = (values[name][:count][keep] for name in ("boxes", "scores", "labels"))
    runs: list[dict[str, Any]] = [{}] * len(boxes)
    shown, zoom = draw.enlarged(image)
    if "masks" in values:
        masks = values["masks"][:count][keep]
        shown = draw.draw_masks(shown, zoom * boxes, labels, masks)
        runs = [_run_lengths(mask, box, image) for mask, box in zip(masks, boxes, strict=True)]
    drawn = draw.draw_boxes(shown, zoom * boxes, labels, driver.class_names, scores)
    if options.draw_routes:
        drawn = route_figures.route_beside(drawn, driver.route_map, values["gates"], values["macs"])
    facts = {
        "size": list(image.shape[:2]),
        **{name: x.item() for name, x in reported(values).items() if x.ndim == 0},
        "detections": [
            {
                "class": driver.class_names[label],
                "category_id": driver.class_ids[label],
                "score": round(float(score), 5),
                "box_xyxy": [round(float(x), 2) for x in box],
                **segmentation,
            }
            for box, score, label, segmentation in zip(boxes, scores, labels, runs, strict=True)
        ],
    }
    return facts, drawn


def best_of(driver: "Driver", found: "Found") -> tuple[float, str]:
    """The score and the class of the surest detection, whatever `min_score`; -1 for none."""
    values = found.detections
    if values is None or not values["count"][0]:
        return -1.0, ""
    return float(values["scores"][0, 0]), driver.class_names[int(values["labels"][0, 0])]


def _run_lengths(mask: Any, box: Any, image: Any) -> dict[str, Any]:
    """An object's pixels in COCO's compressed form."""
    import numpy as np
    from pycocotools import mask as coco_masks

    from tfdet.ops.masks import paste

    runs = coco_masks.encode(np.asfortranarray(paste(mask, box, image.shape[:2]), np.uint8))
    return {"segmentation": {"size": runs["size"], "counts": runs["counts"].decode("ascii")}}
