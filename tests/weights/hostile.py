"""Damaged and malicious weights files: how each is made, and what is said of it.

Each is one way in which a file may lie, break off or attack. `tests/faults/weights_cases.py` gives
them to a command, `tests/weights/hostile_test.py` counts the memory that they take.
"""

import os
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np

from tests.weights import torch_files
from tests.weights.torch_files import Call, Name

WITNESS = "witness"  # what an attack would leave behind, in the working directory
VALUES = np.random.default_rng(0).normal(size=(256, 1024)).astype("float32")  # a megabyte
_COMMAND = f"touch {WITNESS}"
_MANY = 10**6


class Hostile(NamedTuple):
    """A file.

    Attributes:
        name: in words.
        make: writes it.
        says: an expression for the sentence about it; "" where the file is read, and its attack
            comes to nothing.
    """

    name: str
    make: Callable[[pathlib.Path], None]
    says: str


def _cut(save: Callable[[pathlib.Path], None], share: float) -> Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        save(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return make


def _flipped(save: Callable[[pathlib.Path], None]) -> Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        save(path)
        content = bytearray(path.read_bytes())
        content[content.index(VALUES.tobytes()[:64]) + 10] ^= 1
        path.write_bytes(content)

    return make


def _zip(path: pathlib.Path) -> None:
    torch_files.save({"w": VALUES}, path)


def _stream(path: pathlib.Path) -> None:
    torch_files.save_stream({"w": VALUES}, path)


def _npz(path: pathlib.Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, w=VALUES)


def _h5(path: pathlib.Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = VALUES


def _safetensors(path: pathlib.Path, claimed: tuple[int, ...] = (256, 1024)) -> None:
    end = 4 * int(np.prod(claimed, dtype=object))
    facts = f'{{"w":{{"dtype":"F32","shape":{list(claimed)},"data_offsets":[0,{end}]}}}}'
    path.write_bytes(struct.pack("<Q", len(facts)) + facts.encode() + VALUES.tobytes())


def _pickled(pickled: bytes) -> Callable[[pathlib.Path], None]:
    """The zip form with any pickle, beside one good storage."""
    return lambda path: torch_files.write_zip(path, pickled, {"0": VALUES.tobytes()})


def _attack(*pieces: bytes) -> Callable[[pathlib.Path], None]:
    """A state dict with one tensor, and what `pieces` do on the way."""
    storage = torch_files.dumps(torch_files.rebuilt("0", VALUES.shape, VALUES.size))
    tensor = storage.removeprefix(b"\x80\x02").removesuffix(b".")
    return _pickled(b"\x80\x02" + b"".join(pieces) + b"}X\x01\0\0\0w" + tensor + b"s.")


def _call(function: Name) -> bytes:
    call = torch_files.dumps(Call(function, (_COMMAND,)))
    return call.removeprefix(b"\x80\x02").removesuffix(b".") + b"0"


def _claims(shape: tuple[int, ...], count: int) -> Callable[[pathlib.Path], None]:
    return _pickled(torch_files.dumps({"w": torch_files.rebuilt("0", shape, count)}))


def _bomb(path: pathlib.Path) -> None:
    pickled = torch_files.dumps({"w": torch_files.rebuilt("0", (10**8,), 10**8)})
    kwargs = {"compression": zipfile.ZIP_DEFLATED}
    torch_files.write_zip(path, pickled, {"0": bytes(4 * 10**7)}, **kwargs)


def _overlapping(path: pathlib.Path) -> None:
    """Members that lie in the same bytes: a small file of very much content."""
    storages = {str(i): VALUES.tobytes() if i == 0 else b"" for i in range(50)}
    names = {f"w{i}": torch_files.rebuilt(str(i), VALUES.shape, VALUES.size) for i in range(50)}
    torch_files.write_zip(path, torch_files.dumps(names), storages)
    content = bytearray(path.read_bytes())
    start = content.index(b"archive/data/0") - 30
    place = content.index(b"PK\1\2")
    while content[place : place + 4] == b"PK\1\2":
        length = struct.unpack_from("<H", content, place + 28)[0]
        if content[place + 46 : place + 58] == b"archive/data":
            struct.pack_into("<III", content, place + 16, 0, VALUES.nbytes, VALUES.nbytes)
            struct.pack_into("<I", content, place + 42, start)
        place += 46 + length
    path.write_bytes(content)


def _npz_bomb(path: pathlib.Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, w=np.zeros(10**7, "float32"))


def _npz_claim(path: pathlib.Path) -> None:
    _npz(path)
    text = str(VALUES.shape).encode()
    content = path.read_bytes().replace(text, b"(999999,99)")
    assert len(text) == len(b"(256, 1024)") == len(b"(999999,99)")
    # Its checksum is right all the same.
    with zipfile.ZipFile(path) as archive:
        array = archive.read("w.npy").replace(text, b"(999999,99)")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", array)
    assert content


def _escaping(path: pathlib.Path) -> None:
    _zip(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"archive/../../{WITNESS}", "x")


def _key_escape(path: pathlib.Path) -> None:
    (path.parent / "secret").write_bytes(VALUES.tobytes())
    pickled = torch_files.dumps({"w": torch_files.rebuilt("../../secret", (4,), 4)})
    torch_files.write_zip(path, pickled, {"0": VALUES.tobytes()})


def _endless(path: pathlib.Path) -> None:
    torch_files.write_zip(path, _module_in_itself(), {"0": VALUES.tobytes()})


def _module_in_itself() -> bytes:
    """A module whose child is the module."""
    head = b"\x80\x02cmodels.yolo\nModel\n)\x81q\x00}(X\x08\0\0\0_modules}X\x01\0\0\0ah\x00s"
    return head + b"X\x0b\0\0\0_parameters}X\x08\0\0\0_buffers}ub."


def _h5_claim(path: pathlib.Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = VALUES
        file.create_dataset("huge", (_MANY, _MANY), "f4", chunks=(100, 100))


def _h5_external(path: pathlib.Path) -> None:
    (path.parent / "secret").write_bytes(VALUES.tobytes())
    with h5py.File(path, "w") as file:
        secret = str(path.parent / "secret")
        file.create_dataset("w", VALUES.shape, "f4", external=[(secret, 0, VALUES.nbytes)])


def _object_array(path: pathlib.Path) -> None:
    class Attack:
        def __reduce__(self):
            return os.system, (_COMMAND,)

    with open(path, "wb") as file:
        np.savez(file, w=np.array([Attack()], dtype=object))


def _nested(path: pathlib.Path) -> None:
    path.write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def _deep_key(path: pathlib.Path) -> None:
    """A tuple in a tuple, 100,000 times, as a key: Python would hash it until its stack ends."""
    path.write_bytes(b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.")


def _long_name(path: pathlib.Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b'{"w":' + b" " * 1000)


def _kinds(path: pathlib.Path) -> None:
    half = VALUES[:8].astype("float16")
    content = {"half": half, "bf": torch_files.BFloat16(VALUES[:8]), "n": np.arange(9), "w": VALUES}
    torch_files.save(content, path)


SYSTEM = Name("os", "system")
FILES = [
    Hostile("zip, cut in the middle", _cut(_zip, 0.5), "end of a zip archive is missing"),
    Hostile("zip, cut near its end", _cut(_zip, 0.9999), "end of a zip archive|no whole zip"),
    Hostile("stream, cut in its values", _cut(_stream, 0.7), "more than the file has"),
    Hostile("stream, cut in its pickle", _cut(_stream, 0.0001), "ends in the middle of a pickle"),
    Hostile("safetensors, cut", _cut(_safetensors, 0.7), "ends at byte 1048576.*is it cut"),
    Hostile("npz, cut", _cut(_npz, 0.7), "end of a zip archive is missing"),
    Hostile("HDF5, cut", _cut(_h5, 0.7), "is damaged"),
    Hostile("zip, a flipped bit in a value", _flipped(_zip), "cannot be read .*CRC"),
    Hostile("pickle that calls os.system", _attack(_call(SYSTEM)), ""),
    Hostile("pickle that calls eval", _attack(_call(Name("builtins", "eval"))), ""),
    Hostile("pickle of an old instance of os.system", _attack(b"(ios\nsystem\n0"), ""),
    Hostile(
        "pickle that changes what it imports",
        _attack(b"cos\nsystem\n}X\x08\0\0\0__code__X\x01\0\0\0xsb0"),
        "sets attributes of a Global",
    ),
    Hostile(
        "pickle that calls a method of text",
        _attack(b"X\x01\0\0\0x)R0"),
        "a call of what has no name",
    ),
    Hostile("pickle, 10**12 values of a storage", _claims((10,), 10**12), "claims 1000000000000"),
    Hostile(
        "pickle, 10**12 values of a tensor", _claims((_MANY, _MANY), VALUES.size), "claims 1000"
    ),
    Hostile("pickle, a tensor outside of its storage", _claims((257, 1024), VALUES.size), "claims"),
    Hostile("pickle, text of 2**60 bytes", _attack(b"\x8d" + struct.pack("<Q", 2**60)), "too much"),
    Hostile("pickle, bytes of 2**60 bytes", _attack(b"\x8e" + struct.pack("<Q", 2**60)), "ends in"),
    Hostile("pickle, place 2**32 - 1 of the memo", _attack(b"Nr\xff\xff\xff\xff0"), ""),
    Hostile("pickle of a million empty lists", _attack(b"]" * _MANY), "too many lists"),
    Hostile("pickle of lists in lists without end", _nested, "too many lists"),
    Hostile("pickle with a key of tuples in tuples", _deep_key, "too many lists"),
    Hostile("module within itself", _endless, "nested without end"),
    Hostile("zip bomb, packed", _bomb, "is compressed|claim .* bytes, more than"),
    Hostile("zip bomb, members in the same bytes", _overlapping, "claim .* bytes, more than"),
    Hostile("npz bomb", _npz_bomb, "claim .* bytes, more than"),
    Hostile("npz, more values than bytes", _npz_claim, "claims 98999901 values"),
    Hostile("npz of an object that calls os.system", _object_array, "which is not read"),
    Hostile("path out of the zip", _escaping, "leads out of the archive"),
    Hostile("storage by a path out of the zip", _key_escape, "are missing"),
    Hostile("HDF5, 10**12 values", _h5_claim, "claims 1000000000000 values"),
    Hostile("HDF5, values in another file", _h5_external, "lies in another file"),
    Hostile(
        "safetensors, 10**12 values",
        lambda path: _safetensors(path, (_MANY, _MANY)),
        "ends at byte 4000000000000",
    ),
    Hostile("safetensors, a header of 2**62 bytes", _long_name, "its header claims"),
    Hostile("half, bfloat16 and whole numbers", _kinds, ""),
]


def plain_pickle_attack(path: pathlib.Path) -> None:
    """What Python's own reader would run, to show that the attack is a real one."""
    path.write_bytes(pickle.dumps(_Attack()))


class _Attack:
    def __reduce__(self):
        return os.system, (_COMMAND,)
