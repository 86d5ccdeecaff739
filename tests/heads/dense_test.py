import keras
import numpy as np
import pytest

from tfdet.heads.dense import DenseHead, head_levels
from tfdet.heads.packed import PackingConfig

SIZES = {"P3": 8, "P4": 4, "P5": 2}


def maps(seed=0, count=2):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=(count, n, n, 8)).astype(np.float32) for k, n in SIZES.items()}


@pytest.fixture(scope="module")
def head():
    head = DenseHead(3, anchors_per_cell=2, filters=8, repeats=1, groups=2)
    head(maps())
    return head


def test_rows_are_in_the_order_level_row_column_anchor(head):
    features = maps()
    found = head(features)
    cells = sum(n * n for n in SIZES.values())
    assert found["class_logits"].shape == (2, 2 * cells, 3)
    raw = head.predictor(list(features.values()))
    row = 2 * (64 + 4 * 1 + 2) + 1  # P4, row 1, column 2, second anchor
    np.testing.assert_allclose(
        found["class_logits"][:, row], raw["class"][1][:, 1, 2, 3:], atol=1e-6
    )
    np.testing.assert_allclose(found["box_codes"][:, row], raw["box"][1][:, 1, 2, 4:], atol=1e-6)


def test_it_is_made_again_from_its_configuration():
    packing = PackingConfig(filters=8, blocks=1, tower_repeats=1, groups=2)
    for options in ({"filters": 8, "repeats": 2, "groups": 2}, {"packing": packing}):
        head = DenseHead(3, **options)
        again = DenseHead.from_config(head.get_config())
        assert again.get_config() == head.get_config()
        assert (again.packing, again.predictor.filters) == (head.packing, head.predictor.filters)


def test_a_level_stands_for_itself_where_nothing_is_packed():
    assert head_levels(None, 3, 7) == (3, 4, 5, 6, 7)
    packing = PackingConfig(filters=8, blocks=1, tower_repeats=1, groups=2)
    assert set(head_levels(packing, 3, 7)) == {3, 4, 5, 6, 7}


def test_shapes_are_known_before_it_runs(head):
    symbolic = {k: keras.KerasTensor((None, n, n, 8)) for k, n in SIZES.items()}
    assert head(symbolic)["box_codes"].shape == (None, 168, 4)
