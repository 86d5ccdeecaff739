import io

from tests.progress_test import Terminal
from tfdet import progress
from tfdet.training import callbacks, checkpoint

LOGS = {"loss": 1.25, "class_loss": 0.5, "box_loss": 0.75, "learning_rate": 0.08}


def run(stream, monkeypatch, steps_per_epoch=10, num_epochs=2, seconds=1.0):
    """Epochs of so many seconds per step on a clock of our own; gives what was printed."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    state = checkpoint.Progress()
    line = callbacks.ProgressLine(state, steps_per_epoch, num_epochs, stream)
    for epoch in range(num_epochs):
        for step in range(steps_per_epoch):
            clock[0] += seconds
            state.step += 1
            state.seconds += seconds
            line.on_train_batch_end(step, LOGS)
        line.on_epoch_end(epoch, {**LOGS, "AP": 0.3456, "AR": 0.1})
    return stream.getvalue()


def test_a_file_gets_one_line_per_epoch(monkeypatch):
    lines = run(io.StringIO(), monkeypatch).splitlines()
    assert len(lines) == 2
    numbers = "loss 1.25 (class 0.5, box 0.75)  AP 34.6  learning rate 0.08"
    assert lines[0].startswith(f"epoch 1/2  {numbers}")
    assert lines[0].endswith("ETA 10 s")
    assert lines[1].endswith("took 20 s")


def test_a_file_gets_an_early_line_that_says_how_long_a_slow_run_takes(monkeypatch):
    lines = run(io.StringIO(), monkeypatch, seconds=6.0).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/2 step 5/10  loss 1.25") and lines[0].endswith(
        "ETA 1:30 min"
    )


def test_a_terminal_gets_a_bar_that_fits_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    shown = run(Terminal(), monkeypatch).split("\r\x1b[K")
    bar = "█████··············· " + " 25%  ETA 15 s  epoch 1/2 step 5/10  loss 1.25"
    assert shown[5].startswith(bar)
    assert max(len(line) for line in shown if line.startswith("█")) == 69


def test_P25_the_accuracy_of_a_pretraining_is_shown(monkeypatch):
    stream = io.StringIO()
    line = callbacks.ProgressLine(checkpoint.Progress(step=2), 1, 2, stream)
    line.on_epoch_end(1, {"loss": 1.0, "val_accuracy": 0.5})
    assert "accuracy 0.500" in stream.getvalue()
