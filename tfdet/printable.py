"""Names that come out of files, and numbers of things, as text for terminals, pictures, pages."""

import re
import reprlib

from tfdet import limits

# Control characters move the cursor, recolour or erase what a terminal shows; the marks of writing
# direction and the separators of lines make a text read as another one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_BREAKS = re.compile(r"[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
_HALVES = re.compile(r"[\ud800-\udfff]")  # of characters, which no encoding can write


def printable(text: str, keep: str = "") -> str:
    """`text` with its control characters written as their numbers, such as \\x1b.

    Args:
        text: of any origin.
        keep: control characters that stay as they are.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else _number(found[0]), text)


def clean_name(text: str) -> str:
    """The name of a class as everything else has it: one line, without space around.

    Line breaks and tabs become spaces, other control characters their numbers; long names are cut.
    """
    line = _BREAKS.sub(" ", text.strip("\ufeff \t\r\n")).strip()
    line = _HALVES.sub(lambda found: _number(found[0]), printable(line))
    most = limits.MAX_NAME_LETTERS
    return line if len(line) <= most else line[: most - 3] + "..."


def shown(value: object) -> str:
    """The `repr` of a value out of a file, cut to some words where it is long or deep."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits have no text
        return f"a long {type(value).__name__}"


def counted(number: int, noun: str, form: str = "") -> str:
    """The number and the noun after it: "1 image", "2 images", "3 boxes".

    Args:
        number: of things.
        noun: for one of them.
        form: of the number, as in a format string.
    """
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{number:{form}} {noun}{ending}"


def _number(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 10
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 160
