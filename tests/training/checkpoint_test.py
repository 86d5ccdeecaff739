import io
import json

import keras
import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.training import averaging, checkpoint, optimizer

ARRAYS = {"model/0": np.arange(6, dtype=np.float32).reshape(2, 3), "metrics/0": np.float32(0.1)}


def write(folder, *steps):
    for step in steps:
        folder.write(step, {"model/0": np.full(50, step, np.float32)}, {"step": step})


def test_arrays_and_facts_come_back_bit_for_bit(tmp_path):
    folder = checkpoint.StateFolder(tmp_path / "state")
    facts = {"step": 7, "history": [{"loss": 0.1 + 0.2}], "best_score": None}
    folder.write(7, ARRAYS, facts)
    arrays, facts_again = folder.read()
    assert facts_again == facts
    for key, value in ARRAYS.items():
        assert arrays[key].dtype == value.dtype
        np.testing.assert_array_equal(arrays[key], value)


def test_a_new_folder_has_no_state(tmp_path):
    assert checkpoint.StateFolder(tmp_path / "state").read() is None


def test_the_newest_two_states_are_kept(tmp_path):
    folder = checkpoint.StateFolder(tmp_path)
    write(folder, 1, 5, 12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000000005.npz", "0000000012.npz"]
    assert folder.read()[1] == {"step": 12}


def _with_facts(path, facts):
    """The content of a state with other facts, of any kind."""
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text", "facts"])
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path, capsys, damage):
    folder = checkpoint.StateFolder(tmp_path)
    write(folder, 3, 4)
    newest = tmp_path / "0000000004.npz"
    data = bytearray(newest.read_bytes())
    place = data.index(np.full(50, 4, np.float32).tobytes()) + 40
    data[place] ^= 1
    contents = {
        "truncated": bytes(data[: len(data) // 2]),
        "empty": b"",
        "flipped": bytes(data),
        "text": b"not a state\n",
        "facts": _with_facts(newest, [{"step": 4}]),
    }
    newest.write_bytes(contents[damage])
    arrays, facts = folder.read()
    assert facts == {"step": 3}
    np.testing.assert_array_equal(arrays["model/0"], np.full(50, 3, np.float32))
    assert "0000000004.npz is damaged" in capsys.readouterr().out


def test_no_whole_state_is_an_error_and_not_a_new_start(tmp_path):
    (tmp_path / "0000000004.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"no state in .* can be read"):
        checkpoint.StateFolder(tmp_path).read()


def test_a_half_written_state_is_never_read(tmp_path):
    folder = checkpoint.StateFolder(tmp_path)
    write(folder, 3)
    (tmp_path / ".tmp-0000000004.npz").write_bytes(b"half")
    assert folder.read()[1] == {"step": 3}


def make_state(units=4):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units), keras.layers.Dropout(0.5)]
    )
    sgd = optimizer.SGD(0.1, momentum=0.9)
    sgd.build(model.trainable_variables)
    model.compile(optimizer=sgd, loss="mse")
    averages = averaging.MovingAverages(model, 0.9)
    return checkpoint.TrainingState(model, averages, checkpoint.Progress())


def fit_one_step(state, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 8, 3)), rng.normal(size=(8, 4))
    state.model.train_on_batch(x[0], y)
    state.averages.update(state.progress.step)
    state.progress.step += 1


def test_a_restored_run_goes_on_bit_for_bit():
    first, second = make_state(), make_state()
    for seed in range(3):
        fit_one_step(first, seed)
    first.progress.best_score = 0.25
    second.restore(*first.capture())
    assert second.progress == first.progress
    for seed in range(3, 5):
        fit_one_step(first, seed)
        fit_one_step(second, seed)
    ours, theirs = first.capture()[0], second.capture()[0]
    assert sorted(ours) == sorted(theirs)
    for key, value in ours.items():
        np.testing.assert_array_equal(theirs[key], value, err_msg=key)


def test_metrics_come_back_after_fit_has_reset_them():
    first, second = make_state(), make_state()
    fit_one_step(first, 0)
    second.restore(*first.capture())
    second.model.reset_metrics()
    second.restore_metrics()
    assert float(second.model.metrics[0].result()) == float(first.model.metrics[0].result()) > 0
    second.model.reset_metrics()
    second.restore_metrics()
    assert float(second.model.metrics[0].result()) == 0.0


def test_the_state_of_another_model_is_refused():
    with pytest.raises(UserError, match="does not fit the model"):
        make_state(units=5).restore(*make_state(units=4).capture())
