"""Tests of the frame around every command."""

import os
import signal
import subprocess
import sys

import pytest
from absl import flags

from tfdet.cli import app
from tfdet.errors import Interrupted, UserError


def _command(**kwargs):
    command = app.Command("tfdet-toy", "Does a toy thing.", "tfdet-toy --size=3", **kwargs)
    flags.DEFINE_integer("size", 3, "How large it is.", flag_values=command.flags)
    flags.DEFINE_string("data", None, "What to read.", flag_values=command.flags)
    flags.DEFINE_bool("quick", False, "Skips the slow part.", flag_values=command.flags)
    flags.DEFINE_enum("mode", "a", ["a", "b"], "How to do it.", flag_values=command.flags)
    flags.DEFINE_multi_string("also", [], "What else to do.", flag_values=command.flags)
    return command


def test_options_hold_values_words_and_what_was_given():
    seen = []
    code = _command(arguments="WORD").run(seen.append, ["make", "--size=5", "--quick"])
    assert code == 0
    options = seen[0]
    assert (options.size, options.data, options.quick, options.mode) == (5, None, True, "a")
    assert options.args == ["make"]
    assert options.given == {"size", "quick"}


def test_second_run_starts_from_the_defaults():
    command, seen = _command(), []
    command.run(seen.append, ["--size=5"])
    command.run(seen.append, [])
    assert (seen[1].size, seen[1].given) == (3, set())


def test_help_shows_purpose_example_and_every_flag_with_its_default(capsys):
    assert _command(required=("data",)).run(lambda options: 1, ["--size=1", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Does a toy thing.\n")
    for piece in (
        "tfdet-toy --size=3",
        "--size\n      How large it is. (default: 3)",
        "--data\n      What to read. (required)",
        "--[no]quick\n      Skips the slow part. (default: false)",
        "--mode\n      How to do it. (one of a, b; default: a)",
        "--also\n      What else to do.",
    ):
        assert piece in text
    assert "repeat this option" not in text


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--dta=x"], "there is no flag --dta; did you mean --data?"),
        (["--noquik"], "did you mean --quick?"),
        (["--zzzzzz"], "there is no flag --zzzzzz; see"),
        (["--size=big"], "--size must be a whole number, got 'big'; see"),
        (["--mode=c"], "--mode must be one of a, b, got 'c'"),
        (["--quick=maybe"], "--quick must be true or false, got 'maybe'"),
        (["--data="], "--data must be given"),
        (["--flagfile=/no/such"], "/no/such"),
        (["stray"], "'stray' is not understood"),
        ([], "--data must be given"),
        (["--data"], "data"),
    ],
)
def test_wrong_flags_end_with_one_sentence_and_code_2(argv, sentence, capsys):
    command = _command(required=("data",))
    assert command.run(lambda options: 0, argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfdet-toy: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert "`tfdet-toy --help`" in error


def _raise(error):
    def main(options):
        raise error

    return main


def test_user_error_is_one_sentence(capsys):
    assert _command().run(_raise(UserError("no such thing")), []) == 1
    assert capsys.readouterr().err == "tfdet-toy: no such thing\n"


def test_file_error_names_the_file(capsys):
    assert _command().run(_raise(PermissionError(13, "Permission denied", "/x/y")), []) == 1
    assert capsys.readouterr().err == "tfdet-toy: Permission denied: /x/y\n"


def test_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        _command().run(_raise(ZeroDivisionError()), [])


def test_B12_ctrl_c_and_signals_are_one_sentence(capsys):
    assert _command().run(_raise(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr() == ("", "tfdet-toy: stopped by Ctrl-C\n")
    stopped = Interrupted("stopped; the same command resumes", signal.SIGTERM)
    assert _command().run(_raise(stopped), []) == 143
    assert capsys.readouterr().err == "tfdet-toy: stopped; the same command resumes\n"


def test_B2_too_little_memory_is_one_sentence(capsys):
    assert _command().run(_raise(MemoryError()), []) == 1
    assert "there is not enough memory; smaller batches or smaller" in capsys.readouterr().err


def test_closed_pipe_is_quiet():
    program = (
        "import sys; from tfdet.cli import app\n"
        "command = app.Command('tfdet-toy', 'p', 'e')\n"
        "sys.exit(command.run(lambda options: print('x' * 100000)))"
    )
    shell = f'set -o pipefail; {sys.executable} -c "$PROGRAM" | head -c 1'
    done = subprocess.run(
        ["bash", "-c", shell],
        env={**os.environ, "PROGRAM": program},
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 141)


def test_user_keeps_a_chosen_log_level(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    app.hush_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_tensorflow_starts_and_runs_without_a_word():
    program = (
        "import sys; from tfdet.cli import app\n"
        "def main(options):\n"
        "    import tensorflow as tf\n"
        "    tf.config.list_physical_devices('GPU')\n"
        "    images = tf.function(lambda x: tf.image.resize(x, (4, 4)))\n"
        "    images(tf.zeros((1, 8, 8, 3), tf.uint8))\n"
        "sys.exit(app.Command('tfdet-toy', 'p', 'e').run(main, []))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
