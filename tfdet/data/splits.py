"""Training and validation images of a data set that does not say which are which."""

import dataclasses
import hashlib
import math

import numpy as np

from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError

_SEED = 0
_VAL_SHARE = 0.2


def made(dataset: DetectionDataset, split: str) -> DetectionDataset:
    """The images of one side of a split that is made from the names of the images.

    A fifth is "val", the others are "train"; both sides are the same wherever they are made. Names
    are ordered by a hash, so that a few new images change the side of a few old ones only.

    Args:
        dataset: all images; at least two.
        split: "train" or "val".
    """
    count = len(dataset)
    if count < 2:
        raise UserError(
            f"{dataset.name} has one usable image, which cannot be split into train and val; leave "
            f":{split} out to take it"
        )
    digests = [
        hashlib.sha256(f"{_SEED}/{name}".encode(errors="surrogateescape"))
        for name in dataset.names.tolist()
    ]
    order = np.array([digest.hexdigest() for digest in digests]).argsort(kind="stable")
    num_val = math.ceil(_VAL_SHARE * count)
    chosen = np.sort(order[:num_val] if split == "val" else order[num_val:])
    sentence = f"{split} is {len(chosen)} of {count} images, chosen by their names (a fifth is val)"
    return dataclasses.replace(
        dataset.select(chosen),
        name=f"{dataset.name}:{split}",
        assumed=(*dataset.assumed, sentence),
    )
