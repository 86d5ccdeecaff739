"""Tests of the frame around every command."""

import os
import signal
import subprocess
import sys
import time

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


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "tfdet-toy: stopped by Ctrl-C\n"),
        (Interrupted("stopped; 3 of 9 are done", 15), 143, "tfdet-toy: stopped; 3 of 9 are done\n"),
        (
            MemoryError(),
            1,
            "tfdet-toy: out of memory: give a smaller train.batch_size",
        ),
    ],
)
def test_what_stops_a_command_is_said(error, code, sentence, capsys):
    assert _command().run(_raise(error), []) == code
    assert capsys.readouterr().err.startswith(sentence)


def test_sigterm_ends_a_command_cleanly(capsys):
    def main(options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    assert _command().run(main, []) == 143
    assert capsys.readouterr().err == "tfdet-toy: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/x", "/home/me/x"),
        ("~", "/home/me"),
        ("coco:~/a.json:~/images", "coco:/home/me/a.json:/home/me/images"),
        ("data.val=yolo:~/a.yaml:val", "data.val=yolo:/home/me/a.yaml:val"),
        ("a~/x", "a~/x"),
        ("train.frozen=~", "train.frozen=~"),
    ],
)
def test_home_is_expanded(text, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    seen = []
    assert (
        _command(arguments="WORD").run(seen.append, [text, f"--data={text}", f"--also={text}"]) == 0
    )
    assert (seen[0].args, seen[0].data, seen[0].also) == ([path], path, [path])


def test_home_of_nobody_is_refused_unless_it_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert _command().run(lambda options: 0, ["--data=~nobody-at-all/x"]) == 1
    assert "there is no user 'nobody-at-all'" in capsys.readouterr().err
    (tmp_path / "~a.jpg").touch()
    assert app.with_home("~a.jpg") == "~a.jpg"


def test_errors_are_one_line_without_control_characters(capsys):
    assert _command().run(_raise(UserError("no class 'a\x1b[2J\n'")), []) == 1
    assert capsys.readouterr().err == "tfdet-toy: no class 'a\\x1b[2J\\n'\n"


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


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_no_file_takes_the_number_of_a_closed_stream(closed, tmp_path):
    code = (
        "import os, sys; from tfdet.cli import app; command = app.Command('x', 'y', 'z'); "
        f"[os.close(number) for number in {closed}]; "
        "command.run(lambda options: None, ['--version']); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); file.write(str(file.fileno()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2
