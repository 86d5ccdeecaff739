import keras
import numpy as np
import pytest

from tfdet.heads.retina import RetinaTower


def _maps():
    rng = np.random.default_rng(0)
    return {
        "P3": rng.normal(size=(2, 4, 6, 8)).astype("float32"),
        "P4": rng.normal(size=(2, 2, 3, 8)).astype("float32"),
    }


def test_predictions_are_in_the_order_level_row_column_anchor():
    tower = RetinaTower(5, 3, filters=8, repeats=0)
    maps = _maps()
    predictions = np.asarray(tower(maps))
    assert predictions.shape == (2, (24 + 6) * 3, 5)
    for offset, x in ((0, maps["P3"]), (72, maps["P4"])):
        grid = np.asarray(tower.predictor(x))
        row, column, anchor = 1, 2, 1
        index = offset + (row * x.shape[2] + column) * 3 + anchor
        np.testing.assert_array_equal(
            predictions[:, index], grid[:, row, column, anchor * 5 : anchor * 5 + 5]
        )


def test_convolutions_are_shared_and_norms_are_not():
    tower = RetinaTower(4, 9, "box", filters=8, repeats=2)
    tower(_maps())
    names = {v.path.split("/")[-2] for v in tower.weights}
    assert names == {
        *("box-0", "box-1", "box-predict"),
        *("box-0-bn-3", "box-0-bn-4", "box-1-bn-3", "box-1-bn-4"),
    }
    maps = _maps()
    before = tower(maps)
    tower.bns[0]["P4"].gamma.assign(np.full(8, 3.0))
    after = tower(maps)
    np.testing.assert_array_equal(after[:, : 24 * 9], before[:, : 24 * 9])
    assert not np.allclose(after[:, 24 * 9 :], before[:, 24 * 9 :])


def test_fresh_classes_have_a_probability_of_one_percent():
    zeros = {"P3": np.zeros((1, 2, 2, 8), "float32")}
    logits = RetinaTower(5, 3, "class", filters=8)(zeros)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), np.full((1, 12, 5), 0.01), rtol=1e-5)
    np.testing.assert_array_equal(RetinaTower(4, 3, "box", filters=8)(zeros), np.zeros((1, 12, 4)))


@pytest.mark.parametrize("separable", [True, False])
def test_checkpointing_gives_the_same_predictions(separable):
    options = {"filters": 8, "repeats": 2, "separable_conv": separable}
    plain, saving = (
        RetinaTower(5, 3, gradient_checkpointing=flag, **options) for flag in (False, True)
    )
    plain(_maps()), saving(_maps())
    saving.set_weights(plain.get_weights())
    ours, expected = (np.asarray(t(_maps(), training=True)) for t in (saving, plain))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_dropped_residuals_start_at_the_second_convolution():
    keras.utils.set_random_seed(0)
    tower = RetinaTower(5, 3, filters=8, repeats=2, drop_rate=0.5, batch_norm="frozen")
    x = np.tile(_maps()["P3"][:1], (32, 1, 1, 1))
    kept = np.asarray(tower({"P3": x}))
    dropped = np.asarray(tower({"P3": x}, training=True))
    assert not np.allclose(dropped, kept)
    # Two outcomes: the branch is dropped or doubled.
    assert len(np.unique(np.round(dropped[:, 0, 0], 4))) == 2
