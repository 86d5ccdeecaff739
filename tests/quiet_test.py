"""Nothing reaches standard error within `no_stderr`."""

import os

from tfdet import quiet


def test_nothing_is_written_within_and_all_is_after(capfd):
    with quiet.no_stderr():
        os.write(2, b"chatter")
    os.write(2, b"error")
    assert capfd.readouterr().err == "error"
