"""Tests of what control characters become, and of numbers of things."""

import pytest

from tfdet.printable import clean_name, counted, printable, shown


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


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("cat\n", "cat"),
        (" traffic light\t", "traffic light"),
        ("fire\r\nhydrant", "fire hydrant"),
        ("\ufeffcat", "cat"),
        ("a  b", "a  b"),
        ("\x1b[31mcat", "\\x1b[31mcat"),
        ("cat\ud800", "cat\\ud800"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\n", ""),
        ("x" * 300, "x" * 197 + "..."),
    ],
)
def test_names_of_classes_are_one_line(name, cleaned):
    assert clean_name(name) == cleaned
    assert clean_name(cleaned) == cleaned


def test_values_are_shown_short():
    assert shown("many") == "'many'" and shown([1, 2.5, None]) == "[1, 2.5, None]"
    assert len(shown("x" * 10_000)) < 200 and len(shown([[[[[[1]] * 99] * 99]]])) < 500
    assert shown(16**5000) == "a long int"


@pytest.mark.parametrize(
    ("said", "number", "noun", "form"),
    [
        ("0 images", 0, "image", ""),
        ("1 image", 1, "image", ""),
        ("2,000 images", 2000, "image", ","),
        ("1 box", 1, "box", ""),
        ("3 boxes", 3, "box", ""),
        ("2 classes", 2, "class", ""),
        ("2 epochs", 2, "epoch", ""),
    ],
)
def test_things_are_counted_in_english(said, number, noun, form):
    assert counted(number, noun, form) == said
