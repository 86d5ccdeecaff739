import os

import pytest

from tfdet.data import decoder_messages


def test_what_is_written_within_is_caught(capfd):
    with decoder_messages.caught() as lines:
        os.write(2, b"Corrupt JPEG data\nonce more\n")
    os.write(2, b"outside\n")
    assert lines == ["Corrupt JPEG data", "once more"]
    assert capfd.readouterr().err == "outside\n"


def test_errors_leave_it_as_it_was(capfd):
    with pytest.raises(KeyError), decoder_messages.caught():
        raise KeyError
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "outside\n"
