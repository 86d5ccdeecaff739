"""Pickles read as data: nothing that they name is imported, called or changed.

A pickle is a program for a small stack machine. This one makes plain values, tensors and inert
records: a class or function that it does not know by name becomes a `Record` of what the pickle
says about it. Python's own reader imports and calls whatever a file names, and takes as much memory
as a file claims to need.
"""

import codecs
import dataclasses
import struct
from collections.abc import Callable, Hashable
from typing import Any, BinaryIO

from tfdet.errors import UserError

_MOST_STEPS = 2_000_000  # a checkpoint with its optimizer has some 100,000
_MOST_CONTAINERS = 300_000
# Of small files: some for a network of any size, and as many more as take no more memory than the
# file has bytes.
_CONTAINERS, _BYTES_PER_CONTAINER = 10_000, 64
_MOST_TEXT_BYTES = 16 << 20
_MOST_LINE_BYTES = 4096  # of a name or a number that is written as text
_SHORT = 256  # letters of a name that messages show
_TOO_MUCH_TEXT = "it has too much text for a file of weights"
_MARK = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, "module.name"; never the thing itself."""

    name: str


class Record:
    """What a pickle says of an object of a class that is not known here.

    Attributes:
        name: of its class.
        args: that it was made with.
        state: its attributes, or what else was stored of it.
        items: what it holds, if its class is a dict: {key: value}.
    """

    __slots__ = ("args", "items", "name", "state")

    def __init__(self, name: str, args: Any = ()):
        self.name = name
        self.args = args
        self.state: Any = None
        self.items: dict[Any, Any] = {}

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes by name; {} where something else was stored."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # of a class with slots
            state = state[0] or state[1]
        return state if isinstance(state, dict) else {}


# Of a known function: from its arguments to a value.
Maker = Callable[..., Any]


class Machine:
    """Reads one pickle after the other from a stream.

    Args:
        stream: of the file, at the beginning of a pickle.
        end: the place in it that a pickle may reach to.
        makers: {"module.name": function of the arguments} of what is known.
        persistent: gives the value of a persistent id; None where there are none.
        file_bytes: of the whole file, which bounds what may be made of it; None for `end`.
    """

    def __init__(
        self,
        stream: BinaryIO,
        end: int,
        makers: dict[str, Maker],
        persistent: Callable[[Any], Any] | None = None,
        file_bytes: int | None = None,
    ):
        self._stream = stream
        self._left = end - stream.tell()
        self._makers = makers
        self._persistent = persistent
        self._steps = self._containers = self._text = 0
        room = (end if file_bytes is None else file_bytes) // _BYTES_PER_CONTAINER
        self._most_containers = min(_MOST_CONTAINERS, _CONTAINERS + room)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the next pickle; a `UserError` where it is none or asks for too much."""
        self._stack, self._memo = [], {}
        try:
            while (code := self._read(1)) != b".":
                self._steps += 1
                if self._steps > _MOST_STEPS:
                    raise UserError("it has too many steps for a file of weights")
                step = _STEPS.get(code[0])
                if step is None:
                    raise UserError(f"byte {code[0]:#04x} is no step of a pickle")
                step(self)
            return self._pop()
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"its pickle is no sound one ({type(error).__name__})") from None

    # Reading

    def _read(self, size: int) -> bytes:
        if size > self._left:
            raise UserError("it ends in the middle of a pickle")
        content = self._stream.read(size)
        if len(content) != size:
            raise UserError("it ends in the middle of a pickle")
        self._left -= size
        return content

    def _line(self) -> str:
        return self._raw_line(_MOST_LINE_BYTES).decode("utf-8")

    def _raw_line(self, most: int) -> bytes:
        line = self._stream.readline(min(most, self._left))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise UserError("a line of its pickle has no end")
        return line[:-1]

    def _text_line(self) -> str:
        line = self._raw_line(_MOST_TEXT_BYTES)
        self._text += len(line)
        if self._text > _MOST_TEXT_BYTES:
            raise UserError(_TOO_MUCH_TEXT)
        return line.decode("raw-unicode-escape")

    def _number(self, layout: str) -> int:
        return struct.unpack(layout, self._read(struct.calcsize(layout)))[0]

    def _text_of(self, size: int, encoding: str) -> str:
        self._text += size
        if self._text > _MOST_TEXT_BYTES:
            raise UserError(_TOO_MUCH_TEXT)
        return self._read(size).decode(
            encoding, "surrogatepass" if encoding == "utf-8" else "strict"
        )

    def _string(self, size: int) -> str | bytes:
        """A string of Python 2: text, or the bytes of an array."""
        return self._text_of(size, "latin-1") if size <= _SHORT else self._read(size)

    # The stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise UserError("its pickle is no sound one (a mark for a value)")
        return value

    def _top(self) -> Any:
        if self._stack[-1] is _MARK:
            raise UserError("its pickle is no sound one (a mark for a value)")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise UserError("its pickle is no sound one (no mark)")
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _contain(self, value: Any) -> None:
        """Pushes a container; too many would fill the memory."""
        self._containers += 1
        if self._containers > self._most_containers:
            raise UserError("it has too many lists and records for a file of weights")
        self._push(value)

    # Steps that do more than push

    def _put(self, place: int) -> None:
        self._memo[place] = self._top()

    def _get(self, place: int) -> None:
        self._push(self._memo[place])

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UserError("its pickle is no sound one (a name that is no text)")
        self._push(Global(f"{module}.{name}"))

    def _make(self, function: Any, args: Any, kwargs: Any = None) -> None:
        """Calls a known maker; an unknown name becomes a record."""
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise UserError("its pickle is no sound one (a call of what has no name)")
        maker = self._makers.get(function.name)
        if maker is None or kwargs:
            self._contain(Record(function.name, args))
        else:
            self._contain(maker(*args))

    def _instance(self, values: list[Any]) -> None:
        self._make(values[0], tuple(values[1:]))

    def _reconstruct(self) -> None:
        args, function = self._pop(), self._pop()
        if isinstance(function, Global) and function.name in _RECONSTRUCTORS and args:
            # What protocol 2 writes of an object: its class, and that of its built-in part.
            function, args = args[0], ()
        self._make(function, args)

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Record):
            target.state = state
        elif hasattr(target, "build_from"):
            target.build_from(state)
        # Attributes of an ordered dict, such as the versions of a state dict, are of no use.
        elif not isinstance(target, dict):
            raise UserError(f"its pickle sets attributes of a {type(target).__name__}")

    def _append_all(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):
            return  # of a list of another class: of no use
        if not isinstance(target, list):
            raise UserError(f"its pickle appends to a {type(target).__name__}")
        target.extend(values)

    def _set_all(self, target: Any, values: list[Any]) -> None:
        items = target.items if isinstance(target, Record) else target
        if not isinstance(items, dict) or len(values) % 2:
            raise UserError(f"its pickle sets items of a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            items[key_of(key)] = value

    def _add_all(self) -> None:
        values, target = self._pop_to_mark(), self._top()
        if not isinstance(target, set):
            raise UserError(f"its pickle adds to a {type(target).__name__}")
        target.update(key_of(value) for value in values)

    def _persist(self, name: Any) -> None:
        if self._persistent is None:
            raise UserError("its pickle has parts elsewhere")
        self._contain(self._persistent(name))

    def _integer(self) -> None:
        text = self._line()
        self._push({"00": False, "01": True}[text] if text in ("00", "01") else int(text))

    def _quoted(self) -> None:
        """A string of Python 2 as it is written in a program."""
        line = self._raw_line(self._left)
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
            raise UserError("its pickle has a string that is not quoted")
        content = codecs.escape_decode(line[1:-1])[0]
        self._push(content.decode("latin-1") if len(content) <= _SHORT else content)

    def _extend(self) -> None:
        raise UserError("its pickle uses codes that are registered in a program")


_RECONSTRUCTORS = ("copy_reg._reconstructor", "copyreg._reconstructor")
_Scalar = (str, int, float, bytes, bool, type(None))


def key_of(value: Any) -> Hashable:
    """`value` if it may be a key: nested tuples would be hashed without end."""
    if isinstance(value, _Scalar):
        return value
    if isinstance(value, tuple) and all(isinstance(item, _Scalar) for item in value):
        return value
    raise UserError(f"its pickle has a key that is a {type(value).__name__}")


def _long(machine: Machine, size: int) -> None:
    if size > _SHORT:
        raise UserError("its pickle has a number of too many digits")
    machine._push(int.from_bytes(machine._read(size), "little", signed=True))


def _steps() -> dict[int, Callable[[Machine], object]]:
    """What each byte of a pickle does, up to protocol 5."""
    steps: dict[bytes, Callable[[Machine], object]] = {
        b"\x80": lambda m: m._read(1),  # the protocol
        b"\x95": lambda m: m._read(8),  # the length of a frame
        b"(": lambda m: m._push(_MARK),
        b"0": lambda m: m._stack.pop(),
        b"1": lambda m: m._pop_to_mark(),
        b"2": lambda m: m._push(m._top()),
        # Constants
        b"N": lambda m: m._push(None),
        b"\x88": lambda m: m._push(True),
        b"\x89": lambda m: m._push(False),
        b")": lambda m: m._push(()),
        # Numbers
        b"I": Machine._integer,
        b"L": lambda m: m._push(int(m._line().rstrip("L"))),
        b"F": lambda m: m._push(float(m._line())),
        b"G": lambda m: m._push(m._number(">d")),
        b"J": lambda m: m._push(m._number("<i")),
        b"K": lambda m: m._push(m._number("<B")),
        b"M": lambda m: m._push(m._number("<H")),
        b"\x8a": lambda m: _long(m, m._number("<B")),
        b"\x8b": lambda m: _long(m, m._number("<I")),
        # Text and bytes
        b"S": Machine._quoted,
        b"V": lambda m: m._push(m._text_line()),
        b"X": lambda m: m._push(m._text_of(m._number("<I"), "utf-8")),
        b"\x8c": lambda m: m._push(m._text_of(m._number("<B"), "utf-8")),
        b"\x8d": lambda m: m._push(m._text_of(m._number("<Q"), "utf-8")),
        b"T": lambda m: m._push(m._string(m._number("<I"))),
        b"U": lambda m: m._push(m._string(m._number("<B"))),
        b"B": lambda m: m._push(m._read(m._number("<I"))),
        b"C": lambda m: m._push(m._read(m._number("<B"))),
        b"\x8e": lambda m: m._push(m._read(m._number("<Q"))),
        b"\x96": lambda m: m._push(m._read(m._number("<Q"))),
        # Containers
        b"]": lambda m: m._contain([]),
        b"}": lambda m: m._contain({}),
        b"\x8f": lambda m: m._contain(set()),
        b"l": lambda m: m._contain(m._pop_to_mark()),
        b"d": lambda m: _dict(m),
        b"t": lambda m: m._contain(tuple(m._pop_to_mark())),
        b"\x91": lambda m: m._contain(frozenset(key_of(x) for x in m._pop_to_mark())),
        b"\x85": lambda m: _tuple(m, 1),
        b"\x86": lambda m: _tuple(m, 2),
        b"\x87": lambda m: _tuple(m, 3),
        b"a": lambda m: _with_last(m, m._append_all, 1),
        b"s": lambda m: _with_last(m, m._set_all, 2),
        b"e": lambda m: _with_marked(m, m._append_all),
        b"u": lambda m: _with_marked(m, m._set_all),
        b"\x90": Machine._add_all,
        # The memo
        b"p": lambda m: m._put(int(m._line())),
        b"q": lambda m: m._put(m._number("<B")),
        b"r": lambda m: m._put(m._number("<I")),
        b"\x94": lambda m: m._put(len(m._memo)),
        b"g": lambda m: m._get(int(m._line())),
        b"h": lambda m: m._get(m._number("<B")),
        b"j": lambda m: m._get(m._number("<I")),
        # Names, and what is made with them
        b"c": lambda m: m._global(m._line(), m._line()),
        b"\x93": lambda m: _stack_global(m),
        b"R": Machine._reconstruct,
        b"b": Machine._build,
        b"i": lambda m: _old_instance(m),
        b"o": lambda m: m._instance(m._pop_to_mark()),
        b"\x81": lambda m: _new(m),
        b"\x92": lambda m: _new_with_names(m),
        b"P": lambda m: m._persist(m._line()),
        b"Q": lambda m: m._persist(m._pop()),
        **dict.fromkeys((b"\x82", b"\x83", b"\x84"), Machine._extend),
    }
    return {code[0]: step for code, step in steps.items()}


def _dict(machine: Machine) -> None:
    made: dict[Any, Any] = {}
    machine._set_all(made, machine._pop_to_mark())
    machine._contain(made)


def _tuple(machine: Machine, count: int) -> None:
    values = [machine._pop() for _ in range(count)]
    machine._contain(tuple(reversed(values)))


def _with_last(machine: Machine, change: Callable[[Any, list[Any]], None], count: int) -> None:
    values = [machine._pop() for _ in range(count)]
    change(machine._top(), values[::-1])


def _with_marked(machine: Machine, change: Callable[[Any, list[Any]], None]) -> None:
    values = machine._pop_to_mark()
    change(machine._top(), values)


def _stack_global(machine: Machine) -> None:
    name, module = machine._pop(), machine._pop()
    machine._global(module, name)


def _old_instance(machine: Machine) -> None:
    machine._global(machine._line(), machine._line())
    name = machine._pop()
    machine._make(name, tuple(machine._pop_to_mark()))


def _new(machine: Machine) -> None:
    args, name = machine._pop(), machine._pop()
    machine._make(name, args)


def _new_with_names(machine: Machine) -> None:
    kwargs, args, name = machine._pop(), machine._pop(), machine._pop()
    machine._make(name, args, kwargs)


_STEPS = _steps()
