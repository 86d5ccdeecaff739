"""Files to batches: readers of COCO, VOC, YOLO, TFRecord and the built-in `shapes`, augmentations,
and the pipeline. `tfdet.data.load` and `tfdet.open_dataset` are the ways in.

The public names below are imported when they are first used.
"""

import importlib
from typing import Any

_PUBLIC = {
    "AugmentConfig": "augment",
    "DetectionDataset": "dataset",
    "eval_batches": "pipeline",
    "load": "loading",
    "open_dataset": "sources",
    "train_batches": "pipeline",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfdet.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfdet.data.{_PUBLIC[name]}"), name)
