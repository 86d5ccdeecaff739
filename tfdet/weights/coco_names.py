"""The classes of COCO, whose names no checkpoint of COCO carries."""

NAMES = {
    **dict(
        enumerate(
            ["person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"],
            1,
        )
    ),
    **{10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    **dict(
        enumerate(
            ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"],
            16,
        )
    ),
    **{27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee"},
    **{35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat"},
    **{40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle"},
    **dict(
        enumerate(["wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"], 46)
    ),
    **dict(
        enumerate(
            ["sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"], 54
        )
    ),
    **{62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet"},
    **dict(
        enumerate(["tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave"], 72)
    ),
    **{79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock"},
    **dict(enumerate(["vase", "scissors", "teddy bear", "hair drier", "toothbrush"], 86)),
}


def classes(outputs: int) -> tuple[list[str], list[int]] | None:
    """Names and ids of a detector's classes: 80 in a row, or one per id, from 1 (90) or 0 (91).

    An output that stands for no class has the name "". None of other numbers of outputs.
    """
    if outputs == len(NAMES):
        return list(NAMES.values()), list(NAMES)
    if outputs not in (90, 91):
        return None
    ids = list(range(91 - outputs, 91))
    return [NAMES.get(i, "") for i in ids], ids
