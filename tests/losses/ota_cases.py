"""YOLOv7's loss: the published check vectors, and the loss written out in loops."""

import numpy as np

from tfdet.ops.anchor_grid import YOLOV7, AnchorGrid, row_counts

SIDE = 256
IMAGE_SIZE = (SIDE, SIDE)

# (image, class, x, y, width, height), in units of the image.
_OBJECTS = [
    (0, 5, 0.30, 0.40, 0.10, 0.15),
    (0, 17, 0.62, 0.55, 0.40, 0.50),
    (0, 5, 0.33, 0.42, 0.12, 0.14),
    (1, 0, 0.50, 0.50, 0.80, 0.90),
    (1, 79, 0.71, 0.22, 0.06, 0.05),
]

SMALL = AnchorGrid((8, 16), (((10, 12), (24, 20)), ((30, 44), (52, 36))))
SMALL_SIZE = (64, 96)


def published_targets(slots: int = 4) -> dict[str, np.ndarray]:
    boxes = np.zeros((2, slots, 4), np.float32)
    labels = np.full((2, slots), -1, np.int32)
    for image in range(2):
        objects = [row[1:] for row in _OBJECTS if row[0] == image]
        for i, (label, x, y, width, height) in enumerate(objects):
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            boxes[image, i], labels[image, i] = np.array(corners) * SIDE, label
    return {"boxes": boxes, "labels": labels}


def published_predictions(detector: int) -> dict[str, np.ndarray]:
    """Raw predictions of detector 1 or 2."""
    levels = []
    for level, stride in enumerate(YOLOV7.strides):
        n = SIDE // stride
        random = np.random.RandomState(100 + 3 * (detector - 1) + level)
        values = random.standard_normal((2, 3, n, n, 85))
        values[..., :4] *= 0.7
        values[..., 4:] -= 4.0
        levels.append(values.reshape(2, -1, 85))
    rows = np.concatenate(levels, axis=1).astype(np.float32)
    return {
        "box_codes": rows[..., :4],
        "object_logits": rows[..., 4],
        "class_logits": rows[..., 5:],
    }


def random_case(seed: int, batch: int = 3, slots: int = 6, classes: int = 4):
    """Targets with padding and crowds, and predictions for `SMALL`.

    Centres lie on cell borders, image borders and beyond them too.
    """
    rng = np.random.default_rng(seed)
    height, width = SMALL_SIZE
    centers = rng.uniform(-2, [width + 2, height + 2], (batch, slots, 2))
    centers = np.where(rng.random(centers.shape) < 0.3, np.round(centers / 16) * 16, centers)
    sizes = np.exp(rng.uniform(1.5, 4.3, (batch, slots, 2)))
    # Eighths, so that float32 has the same centres as the slow way in float64.
    centers, sizes = np.round(centers * 8) / 8, np.round(sizes * 4) / 4
    targets = {
        "boxes": np.concatenate([centers - sizes / 2, centers + sizes / 2], -1).astype(np.float32),
        "labels": rng.integers(-1, classes, (batch, slots)).astype(np.int32),
        "is_crowd": rng.random((batch, slots)) < 0.15,
    }
    return targets, random_predictions(rng, batch, classes)


def random_predictions(rng, batch: int, classes: int) -> dict[str, np.ndarray]:
    rows = sum(row_counts(SMALL, SMALL_SIZE))
    raw = {
        "box_codes": rng.normal(0, 0.7, (batch, rows, 4)),
        "object_logits": rng.normal(-2, 1, (batch, rows)),
        "class_logits": rng.normal(-2, 1, (batch, rows, classes)),
    }
    return {name: value.astype(np.float32) for name, value in raw.items()}


def slow_candidates(boxes, grid, image_size, reach=0.5, threshold=4.0):
    """Candidates of one image as (level, anchor, y, x, object), in the published order."""
    found = []
    for level, (stride, anchors) in enumerate(zip(grid.strides, grid.anchors, strict=True)):
        height, width = (side // stride for side in image_size)
        for step_x, step_y in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)):
            for a, anchor in enumerate(anchors):
                for i, (left, top, right, bottom) in enumerate(boxes.astype(np.float64) / stride):
                    ratios = np.array([right - left, bottom - top]) * stride / anchor
                    x, y = (left + right) / 2, (top + bottom) / 2
                    space = {(1, 0): x, (0, 1): y, (-1, 0): width - x, (0, -1): height - y}
                    room = space.get((step_x, step_y))
                    if max(*ratios, *(1 / ratios)) >= threshold:
                        continue
                    if room is not None and not (room % 1 < reach and room > 1):
                        continue
                    column = min(max(int(x - step_x * reach), 0), width - 1)
                    row = min(max(int(y - step_y * reach), 0), height - 1)
                    found.append((level, a, row, column, i))
    return found


def row_number(candidate, grid, image_size) -> int:
    level, a, y, x, _ = candidate
    height, width = (side // grid.strides[level] for side in image_size)
    return sum(row_counts(grid, image_size)[:level]) + (a * height + y) * width + x


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def slow_box(code, candidate, grid):
    """Decoded box of one candidate, xyxy pixels."""
    level, a, y, x, _ = candidate
    s = sigmoid(code)
    center = (2 * s[:2] - 0.5 + [x, y]) * grid.strides[level]
    size = (2 * s[2:]) ** 2 * grid.anchors[level][a]
    return np.concatenate([center - size / 2, center + size / 2])


def slow_iou(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def slow_ciou(a, b):
    iou = slow_iou(a, b)
    hull = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    distance = np.sum((a[:2] + a[2:] - b[:2] - b[2:]) ** 2) / 4 / np.sum(hull**2)
    angles = [np.arctan((c[2] - c[0]) / (c[3] - c[1])) for c in (a, b)]
    aspect = 4 / np.pi**2 * (angles[0] - angles[1]) ** 2
    return iou - distance - aspect * aspect / max(aspect - iou + 1, 1e-9)


def slow_matches(candidates, boxes, labels, raw, grid, image_size, top_k=10):
    """The chosen candidates of one image with their objects: [(candidate, object)], in order."""
    if not candidates or not len(boxes):
        return []
    rows = [row_number(c, grid, image_size) for c in candidates]
    guesses = [
        slow_box(raw["box_codes"][r], c, grid) for r, c in zip(rows, candidates, strict=True)
    ]
    ious = np.array([[slow_iou(box, guess) for guess in guesses] for box in boxes])
    p = np.sqrt(sigmoid(raw["class_logits"][rows]) * sigmoid(raw["object_logits"][rows])[:, None])
    cost = np.zeros_like(ious)
    for i, label in enumerate(labels):
        aim = np.arange(p.shape[1]) == label
        cost[i] = -np.sum(np.where(aim, np.log(p), np.log(1 - p)), axis=1)
    cost -= 3 * np.log(ious + 1e-8)
    takers = [[] for _ in candidates]
    for i in range(len(boxes)):
        count = max(1, int(np.sum(np.sort(ious[i])[::-1][:top_k])))
        for n in np.argsort(cost[i], kind="stable")[:count]:
            takers[n].append(i)
    return [
        (candidate, taken[0] if len(taken) == 1 else int(np.argmin(cost[:, n])))
        for n, (candidate, taken) in enumerate(zip(candidates, takers, strict=True))
        if taken
    ]


def slow_losses(matches, boxes, labels, raw, grid, image_size, balance):
    """Box, objectness and class loss of images together, gains left out.

    Args:
        matches: per image what `slow_matches` returns.
        boxes, labels: per image those of the known objects.
    """
    counts = row_counts(grid, image_size)
    starts = np.cumsum((0, *counts))
    totals = np.zeros(3)
    aims = np.zeros(raw["object_logits"].shape)
    for level in range(grid.num_levels):
        box_losses, class_losses = [], []
        for image, pairs in enumerate(matches):
            for candidate, i in pairs:
                if candidate[0] != level:
                    continue
                row = row_number(candidate, grid, image_size)
                guess = slow_box(raw["box_codes"][image, row], candidate, grid)
                ciou = slow_ciou(guess, boxes[image][i].astype(np.float64))
                box_losses.append(1 - ciou)
                aims[image, row] = max(ciou, 0)
                p = sigmoid(raw["class_logits"][image, row])
                aim = np.arange(len(p)) == labels[image][i]
                class_losses.append(-np.mean(np.where(aim, np.log(p), np.log(1 - p))))
        part = slice(starts[level], starts[level + 1])
        p, aim = sigmoid(raw["object_logits"][:, part]), aims[:, part]
        objects = -np.mean(aim * np.log(p) + (1 - aim) * np.log(1 - p)) * balance[level]
        means = [np.mean(losses) if losses else 0.0 for losses in (box_losses, class_losses)]
        totals += [means[0], objects, means[1]]
    return totals
