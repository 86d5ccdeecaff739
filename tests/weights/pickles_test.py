"""Pickles as data: all that Python writes is read, and nothing that it names is called."""

import collections
import datetime
import io
import pickle

import pytest

from tests.weights import torch_files
from tests.weights.torch_files import Call, Name
from tfdet.errors import UserError
from tfdet.weights.pickles import Global, Machine, Record


def load(content, makers=None):
    return Machine(io.BytesIO(content), len(content), makers or {}).load()


PLAIN = [
    None,
    True,
    -1,
    255,
    65535,
    -(2**31),
    2**40,
    -(2**100),
    1.5,
    "text ä \U0001f600",
    b"bytes",
    [],
    [1, [2, "x"]],
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    {},
    {"a": 1, (1, 2): None},
    {1, 2},
    frozenset({"x"}),
    list(range(2000)),
    "x" * 300,
]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_python_reads_them(protocol):
    names = ("builtins", "__builtin__")
    makers = {f"{m}.set": set for m in names} | {f"{m}.frozenset": frozenset for m in names}
    makers["_codecs.encode"] = lambda text, encoding: text.encode(encoding)
    for value in PLAIN:
        found = load(pickle.dumps(value, protocol), makers)
        assert found == value, value
        assert type(found) is type(value)


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_not_known_becomes_a_record(protocol):
    found = load(pickle.dumps(collections.Counter("aab"), protocol))
    assert isinstance(found, Record)
    assert found.name == "collections.Counter"
    found = load(pickle.dumps(datetime.date(2020, 1, 2), protocol))
    assert found.name == "datetime.date"
    assert load(pickle.dumps(print, protocol)) in (
        Global("builtins.print"),
        Global("__builtin__.print"),
    )


class Own:
    def __init__(self):
        self.x = [1]


class Slotted:
    __slots__ = ("y",)


class Dictionary(dict):
    pass


@pytest.mark.parametrize("protocol", range(6))
def test_records_have_attributes_and_items(protocol):
    assert load(pickle.dumps(Own(), protocol)).attributes == {"x": [1]}
    held = Dictionary(a=1)
    held.more = 2
    found = load(pickle.dumps(held, protocol))
    assert found.attributes == {"more": 2}
    if protocol > 1:  # before, the dict is an argument of its making
        assert found.items == {"a": 1}
        slotted = Slotted()
        slotted.y = 3
        assert load(pickle.dumps(slotted, protocol)).attributes == {"y": 3}


def test_what_refers_to_itself_does_so_here():
    value = []
    value.append(value)
    found = load(pickle.dumps(value))
    assert found[0] is found


def test_known_functions_are_called_with_what_the_pickle_says():
    content = torch_files.dumps(Call(Name("here", "add"), (1, 2)))
    assert load(content, {"here.add": lambda a, b: a + b}) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "ends in the middle"),
        (b"\x80\x02K", "ends in the middle"),
        (b"\x80\x02B\xff\xff\xff\xff.", "ends in the middle"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "ends in the middle"),
        (b".", "no sound one"),
        (b"(.", "a mark for a value"),
        (b"t.", "no sound one"),
        (b"\xff.", "byte 0xff is no step"),
        (b"h\x05.", "no sound one"),
        (b"]K\x01b.", "sets attributes of a list"),
        (b"K\x01K\x02a.", "appends to a int"),
        (b"]K\x01K\x02s.", "sets items of a list"),
        (b"K\x01)R.", "a call of what has no name"),
        (b"cos\nsystem\nK\x01R.", "a call of what has no name"),
        (b"}]K\x01s.", "a key that is a list"),
        (b"}cos\nsystem\nK\x01s.", "a key that is a Global"),
        (b"}K\x01\x85\x85K\x01s.", "a key that is a tuple"),
        (b"\x82\x01.", "registered in a program"),
        (b"Pid\n.", "parts elsewhere"),
        (b"\x8b\xff\xff\xff\x7f.", "number of too many digits"),
        (b"\x8b\xff\xff\xff\xff.", "no sound one|too many digits"),
        (b"I12" + b"3" * 5000 + b"\n.", "has no end"),
        (b"Ix\n.", "no sound one"),
        (b"N" * 2_000_001, "too many steps"),
        (b"}" * 300_001, "too many lists"),
        (b"\x8c\x02\xff\xff.", "no sound one"),
        (b"X\x01\x00\x00\x02" + b"x" * ((32 << 20) + 1), "too much text"),
    ],
)
def test_what_is_no_pickle_is_a_sentence(content, says):
    with pytest.raises(UserError, match=says):
        load(content)


def test_a_huge_place_of_the_memo_takes_no_memory():
    assert load(b"\x80\x02K\x01r\xff\xff\xff\xff.") == 1
