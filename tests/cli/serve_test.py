"""Tests of `tfdet-serve`: mistakes of its flags, answered by a sentence ahead of the work."""

import socket

import pytest

from tfdet.cli import app, serve
from tfdet.errors import UserError


def _options(*flags):
    return serve.COMMAND.parse(list(flags))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--model=cells"], "give NAME=DIR"),
        (["--model==dir"], "give NAME=DIR"),
        (["--model=cells="], "give NAME=DIR"),
        (["--model=a/b=dir"], "with a name of letters"),
        (["--model=a=x", "--model=a=y"], "two models named a"),
        (["--model=a=x", "--port=70000"], "--port must be between 0 and 65535"),
        (["--model=a=x", "--max_wait_ms=-1"], "--max_wait_ms must not be negative"),
        (["--model=a=x", "--batch_size=0"], "--batch_size must be above 0"),
        (["--model=a=x", "--queue_size=4", "--batch_size=8"], "at least --batch_size"),
        (["--model=a=x", "--slo_ms=0"], "--slo_ms must be above 0"),
        (["--model=a=x", "--effort=2"], "--effort must be between 0 and 1"),
        (["--model=a=x", "--effort=1", "--slo_ms=9"], "give --effort or --slo_ms"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, sentence):
    with pytest.raises(app.UsageError, match=sentence):
        serve.main(_options(*flags))


def test_a_port_in_use_is_a_sentence_and_comes_before_models_are_loaded(tmp_path):
    pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {port}"):
            serve.main(_options(f"--model=a={tmp_path}", f"--port={port}"))


def test_folders_without_an_export_are_refused(tmp_path):
    pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
    for folder, reason in ((tmp_path, "holds neither"), (tmp_path / "no", "is not there")):
        with pytest.raises(UserError, match=reason):
            serve.main(_options(f"--model=a={folder}", "--port=0"))
    with pytest.raises(UserError, match="is not a folder"):
        serve.main(_options(f"--model=a={tmp_path}", "--port=0", f"--samples={tmp_path}/no"))
    with pytest.raises(UserError, match="has no images"):
        serve.main(_options(f"--model=a={tmp_path}", "--port=0", f"--samples={tmp_path}"))
