"""Tests of fonts for all scripts."""

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image, ImageDraw

from tfdet.visualization import letters


def _shape(text, font):
    picture = Image.new("L", (200, 40))
    ImageDraw.Draw(picture).text((2, 2), text, fill=255, font=font)
    return np.asarray(picture)


@pytest.mark.parametrize("text", ["Fußgänger", "пешеход", "πεζός", "piéton", "إنسان"])
def test_letters_are_no_empty_boxes(text):
    drawn, font = letters.written(text, 20, "class 3")
    assert drawn == text
    letter = text.strip("abcdefghijklmnopqrstuvwxyzFéßä") or text[-3]
    # What a font lacks is a box, the same for every letter.
    assert not np.array_equal(_shape(letter[0], font), _shape("\ue123", font))
    shapes = {_shape(letter, font).tobytes() for letter in set(text)}
    assert len(shapes) > len(set(text)) // 2


def test_ascii_looks_as_before():
    drawn, font = letters.written("cat", 20, "class 0")
    assert (drawn, font.getname()[0]) == ("cat", "Aileron")


def test_letters_that_no_font_has_give_the_number_of_the_class(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    letters._font_with.cache_clear()
    try:
        assert letters.written("人", 20, "class 7")[0] == "class 7"
        assert letters.written("\ud800", 20, "class 8")[0] == "class 8"
    finally:
        letters._font_with.cache_clear()


def test_a_font_of_the_system_is_taken_where_it_has_the_letters(monkeypatch, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    serif = font_manager.findfont("DejaVu Serif")
    monkeypatch.setattr(
        font_manager, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf"), serif]
    )
    monkeypatch.setattr(
        letters,
        "_has",
        lambda path, wanted, has=letters._has: "Sans" not in path and has(path, wanted),
    )
    letters._font_with.cache_clear()
    try:
        drawn, font = letters.written("пешеход", 20, "class 7")
        assert (drawn, font.getname()[0]) == ("пешеход", "DejaVu Serif")
    finally:
        letters._font_with.cache_clear()


def test_control_characters_and_endless_names_are_shortened():
    assert letters.written("cat\n", 20, "")[0] == "cat\\n"
    assert letters.written("x" * 10_000, 20, "")[0] == "x" * 57 + "..."
