"""`fit` around a model of two numbers: what resumes, what is written, and by whom."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.errors import Interrupted, UserError
from tfdet.training import callbacks, fitting
from tfdet.training.run_folder import RunFolder

STEPS = 4


class Line(keras.Model):
    """y = a x + b."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, 1))
        self.built = True

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(keras.ops.square(y - y_pred))


class Killed(Exception):
    pass


def make(folder, is_writer=True, save_seconds=0.0, model=Line):
    settings = config.TrainConfig(
        batch_size=2,
        num_epochs=3,
        momentum=0.0,
        warmup_epochs=0.0,
        learning_rate_batch=0,
        save_seconds=save_seconds,
        ema_decay=0.5,
        seed=3,
    )
    fitting.prepare(settings)
    model = model()
    fitting.compile_model(model, settings, STEPS, model.name)
    averages = fitting.make_averages(model, settings)
    where = RunFolder(folder, "recipe.yaml", is_writer=is_writer)
    return fitting.Fitting(model, settings, STEPS, where, averages)


class Measurement(callbacks.Measurement):
    """Sends a signal within a step."""

    stop_at = None

    def on_train_batch_begin(self, batch, logs=None):
        if self._progress.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def fit(run, kill_at=None, stop_at=None):
    def batches():
        def steps():
            for step in range(run.progress.step, run.total_steps):
                if step == kill_at:
                    raise Killed
                x = np.random.default_rng(step).normal(size=(2, 1)).astype(np.float32)
                yield x, 2 * x - 1

        spec = tf.TensorSpec((2, 1), tf.float32)
        return tf.data.Dataset.from_generator(steps, output_signature=(spec, spec))

    def measurement(shown):
        path = run.folder.path if shown else None
        kept = run.model
        measured = Measurement(
            kept, run.progress, run.averages, path, None, 1, 3, signals=run.signals
        )
        measured.stop_at = stop_at
        return measured

    run.folder.path.mkdir(exist_ok=True)
    run.fit(batches, lambda step: [f"image {step}"], measurement)
    return [np.array(v) for v in (*run.model.weights, *run.averages.averages)]


@pytest.mark.parametrize("kill_at", [2, 4, 7])
def test_a_killed_run_resumes_with_the_same_numbers(tmp_path, kill_at):
    whole = fit(make(tmp_path / "whole"))
    with pytest.raises((Killed, tf.errors.OpError)):
        fit(make(tmp_path / "killed"), kill_at)
    run = make(tmp_path / "killed")
    assert run.resume() and 0 < run.progress.step <= kill_at
    for ours, theirs in zip(fit(run), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [row["step"] for row in run.progress.history] == [4, 8, 12]


@pytest.mark.parametrize(("stop_at", "saved"), [(1, 2), (6, 7), (3, 3), (11, 11)])
def test_a_stopped_run_loses_no_step_but_the_one_ahead_of_a_measurement(tmp_path, stop_at, saved):
    whole = fit(make(tmp_path / "whole"))
    stopped = make(tmp_path / "stopped", save_seconds=1000.0)
    with pytest.raises(Interrupted) as caught:
        fit(stopped, stop_at=stop_at)
    assert caught.value.number == signal.SIGTERM
    assert str(caught.value) == (
        f"stopped; the state of step {saved} of 12 is saved in {tmp_path / 'stopped'}, and the "
        "same command resumes there"
    )
    run = make(tmp_path / "stopped")
    assert run.resume() and run.progress.step == saved
    for ours, theirs in zip(fit(run), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [row["step"] for row in run.progress.history] == [4, 8, 12]


def test_a_new_run_has_nothing_to_resume_and_a_finished_one_nothing_to_do(tmp_path):
    run = make(tmp_path)
    assert not run.resume() and run.total_steps == 12
    before = [np.array(v).item() for v in run.model.weights]
    weights = fit(run)
    after = [x.item() for x in weights[:2]]
    assert np.hypot(after[0] - 2, after[1] + 1) < np.hypot(before[0] - 2, before[1] + 1)
    again = make(tmp_path)
    assert again.resume() and again.progress.step == 12
    for ours, theirs in zip(fit(again), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_process_that_does_not_write_trains_alike(tmp_path):
    weights = fit(make(tmp_path / "chief"))
    for ours, theirs in zip(fit(make(tmp_path / "worker", is_writer=False)), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (tmp_path / "chief" / "logs" / "history.csv").is_file()
    assert not list((tmp_path / "worker").iterdir())


class Hungry(Line):
    """Asks for 4 KiB with one image, and 4 TiB with two."""

    def call(self, x):
        count = tf.shape(x, out_type=tf.int64)[0]
        size = tf.bitwise.left_shift(tf.constant(1, tf.int64), 30 * count - 20)
        asked = tf.random.uniform([size])
        return self.dense(x) + 1e-30 * tf.reduce_max(asked)


def test_B2_a_step_that_needs_too_much_memory_names_a_batch_that_fits(tmp_path):
    with pytest.raises(UserError) as caught:
        fit(make(tmp_path, model=Hungry))
    assert str(caught.value) == (
        "a step of train.batch_size=2 does not fit into memory; 1 fits: give --batch_size=1 (the "
        "learning rate is not scaled with it, so lower train.learning_rate too), or lower "
        "model.image_size or data.max_boxes"
    )


def test_precision_ends_with_the_block():
    with fitting.precision("bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"
