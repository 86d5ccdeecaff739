"""Names that come out of files, as text that a terminal, a picture or a page can show."""

import re

# Control characters move the cursor, recolour or erase what a terminal shows; the marks of writing
# direction and the separators of lines make a text read as another one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str, keep: str = "") -> str:
    """`text` with its control characters written as their numbers, such as \\x1b.

    Args:
        text: of any origin.
        keep: control characters that stay as they are.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else _number(found[0]), text)


def _number(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
