import numpy as np
import pytest

from tfdet.data import splits
from tfdet.data.shapes import open_shapes
from tfdet.errors import UserError


@pytest.mark.parametrize("count", [2, 3, 5, 101])
def test_sides_share_no_image_and_lose_none(count):
    dataset = open_shapes("train", count)
    sides = [splits.made(dataset, split) for split in ("train", "val")]
    assert len(sides[1]) == -(-count // 5)
    ids = np.concatenate([side.image_ids for side in sides])
    assert sorted(ids.tolist()) == dataset.image_ids.tolist()
    assert all(np.all(np.diff(side.image_ids) > 0) for side in sides)
    assert all(len(side.boxes) == side.box_offsets[-1] for side in sides)


def test_new_images_hardly_change_the_sides_of_old_ones():
    before, after = (splits.made(open_shapes("train", n), "val") for n in (200, 210))
    kept = set(before.names.tolist()) & set(after.names.tolist())
    assert len(kept) >= len(before) - 4


def test_one_image_cannot_be_split():
    with pytest.raises(UserError, match="leave :val out"):
        splits.made(open_shapes("train", 1), "val")
