"""`fit` around a model of two numbers: what resumes, what is written, and by whom."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
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


def make(folder, is_writer=True):
    settings = config.TrainConfig(
        batch_size=2,
        num_epochs=3,
        momentum=0.0,
        warmup_epochs=0.0,
        learning_rate_batch=0,
        save_seconds=0.0,
        ema_decay=0.5,
        seed=3,
    )
    fitting.prepare(settings)
    model = Line()
    fitting.compile_model(model, settings, STEPS, model.name)
    averages = fitting.make_averages(model, settings)
    where = RunFolder(folder, "recipe.yaml", is_writer=is_writer)
    return fitting.Fitting(model, settings, STEPS, where, averages)


def fit(run, kill_at=None):
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
        path = run.folder.path
        kept = run.model
        return callbacks.Measurement(kept, run.progress, run.averages, path, None, 1, 3)

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


def test_precision_ends_with_the_block():
    with fitting.precision("bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"
