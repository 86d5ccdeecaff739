"""Ways to damage a file at random."""

import json
import random
import re
from typing import Any

# What a field of a table may hold that nobody has thought of.
ODD_VALUES = (
    None,
    True,
    "",
    " ",
    "x" * 300,
    "\u0000",
    "\x1b[31m",
    "人",
    "../../x",
    -1,
    0,
    2**31,
    10**30,
    -0.5,
    1e308,
    float("inf"),
    float("nan"),
    [],
    [[]],
    [None],
    {},
    {"a": {"b": []}},
)
ODD_TEXTS = ("-1", "1e400", "9" * 400, "nan", "null", "''", "[]", "{}", "\x00", "\x1b[2J", "~", "%")
ODD_TEXTS += ("&a [*a]", "[" * 500, "<x>", "\ufeff", "é", "0x10", "yes", "!!python/name:os.system ")


def damage(content: bytes, kind: str, chance: random.Random) -> bytes:
    """A copy of a file with one to three damages.

    Args:
        content: of the file.
        kind: "json", "lines" (of JSON), "text" or "bytes": what more can be damaged than bytes.
        chance: draws them.
    """
    ways = [flip, cut, insert, drop, repeat]
    more = {"json": [odd_field], "lines": [odd_row], "text": [odd_word], "bytes": []}
    ways += more[kind] * 5
    for _ in range(chance.randint(1, 3)):
        content = chance.choice(ways)(content, chance)
    return content


def flip(content: bytes, chance: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 20))):
        if found:
            found[chance.randrange(len(found))] = chance.randrange(256)
    return bytes(found)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def insert(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.randbytes(chance.choice((1, 4, 100))) + content[place:]


def drop(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:start] + content[end:]


def repeat(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:end] + content[start:end] * chance.choice((1, 2, 50)) + content[end:]


def _piece(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(content) + 1)
    return start, min(start + chance.choice((1, 8, 60)), len(content))


def odd_word(content: bytes, chance: random.Random) -> bytes:
    """Replaces a number or a word of a text."""
    words = list(re.finditer(rb"[\w.+-]+", content))
    if not words:
        return content
    word = chance.choice(words)
    odd = chance.choice(ODD_TEXTS).encode()
    return content[: word.start()] + odd + content[word.end() :]


def odd_field(content: bytes, chance: random.Random) -> bytes:
    """Replaces, removes or doubles a value somewhere in a JSON text."""
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return odd_word(content, chance)
    places = list(_places(root))
    if not places:
        return json.dumps(chance.choice(ODD_VALUES)).encode()
    holder, key = chance.choice(places)
    way = chance.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.25 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = chance.choice(ODD_VALUES)
    return json.dumps(root).encode()


def odd_row(content: bytes, chance: random.Random) -> bytes:
    """`odd_field` in one of the lines of a text, each of which is JSON."""
    lines = content.split(b"\n")
    i = chance.randrange(len(lines))
    lines[i] = odd_field(lines[i], chance)
    return b"\n".join(lines)


def _places(node: Any):
    """(holder, key) of every value within a JSON value."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(pairs):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)
