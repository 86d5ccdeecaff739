"""Tests of what control characters become."""

import pytest

from tfdet.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("Fußgänger 人 \N{SLICE OF PIZZA}", "Fußgänger 人 \N{SLICE OF PIZZA}"),
        ("\x1b[2Jcat\n", "\\x1b[2Jcat\\n"),
        ("a\x9b31m", "a\\x9b31m"),
        ("gpj.\u202etxt", "gpj.\\u202etxt"),
        ("\udcff", "\udcff"),
    ],
)
def test_control_characters_are_written_as_numbers(text, shown):
    assert printable(text) == shown


def test_lines_can_stay():
    assert printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
