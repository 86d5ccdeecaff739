import dataclasses
from typing import Literal

import numpy as np
import pytest

from tfdet import records
from tfdet.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inner:
    method: Literal["hard", "soft"] = "hard"
    limit: float | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    width: int
    size: tuple[int, int] = (64, 64)
    names: tuple[str, ...] = ()
    flag: bool = False
    rate: float = 0.5
    inner: Inner = Inner()


def test_round_trip_through_plain_data():
    record = Outer(width=3, names=("a", "b"), inner=Inner("soft", 0.25))
    assert records.from_dict(Outer, records.to_dict(record)) == record


def test_dotted_and_nested_changes_merge():
    record = Outer(width=3, inner=Inner("soft", 0.25))
    assert records.replace(record, {"inner.limit": 1}).inner == Inner("soft", 1.0)
    assert records.replace(record, {"inner": {"limit": None}}).inner == Inner("soft", None)


def test_dotted_keys_of_one_record_nest_together():
    assert records.nest({"a.b": 1, "a": {"c": 2}, "a.d.e": 3}) == {
        "a": {"b": 1, "c": 2, "d": {"e": 3}}
    }


@dataclasses.dataclass(frozen=True)
class Open:
    rate: float = 0.5
    others: dict = dataclasses.field(
        default_factory=dict, metadata={records.OPEN: lambda: {"limit": int, "inner": Inner}}
    )
    flag: bool = False


def test_an_open_field_holds_keys_that_stand_among_the_records_own():
    record = records.from_dict(Open, {"limit": 3, "inner": {"limit": 2}, "flag": True})
    assert record == Open(0.5, {"limit": 3, "inner": Inner(limit=2.0)}, True)
    assert list(records.to_dict(record)) == ["rate", "limit", "inner", "flag"]
    assert records.replace(record, {"inner.method": "soft"}).others["inner"] == Inner("soft", 2.0)
    for data, message in (
        ({"limti": 3}, "did you mean 'limit'"),
        ({"limit": "much"}, "limit must be a whole number"),
        ({"others": {}}, "unknown key 'others'"),
    ):
        with pytest.raises(UserError, match=message):
            records.from_dict(Open, data)


def test_yaml_floats_without_a_dot_are_numbers():
    assert records.from_dict(Outer, {"width": 1, "rate": "4e-5"}).rate == 4e-5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"widht": 3}, "did you mean 'width'"),
        ({"width": 3, "inner": {"metod": "hard"}}, r"inner\.metod.*did you mean 'method'"),
        ({"width": 3, "inner": {"method": "firm"}}, "one of 'hard', 'soft'; got 'firm'"),
        ({"width": "wide"}, "width must be a whole number, got 'wide'"),
        ({"width": True}, "width must be a whole number"),
        ({"width": 3, "size": [1, 2, 3]}, "size must have 2 values, got 3"),
        ({"width": 3, "size": 64}, "size must be a list"),
        ({"width": 3, "flag": "yes"}, "flag must be true or false"),
        ({"width": 3, "rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"width": 3, "inner": 4}, "inner must be a mapping"),
        ({}, "lacks the key 'width'"),
    ],
)
def test_mistakes_name_the_place_and_the_mend(data, message):
    with pytest.raises(UserError, match=message):
        records.from_dict(Outer, data)


def test_numbers_of_numpy_are_numbers():
    size = np.array([32, 48])
    record = records.from_dict(Outer, {"width": np.int64(3), "size": size, "rate": np.float32(0.5)})
    assert record == Outer(width=3, size=(32, 48)) and type(record.width) is int


def test_keys_of_other_projects_are_known():
    assert records.nearest("lr", ["learning_rate", "rates"]) == "did you mean 'learning_rate'?"
    assert records.nearest("nc", ["num_classes"]) == "did you mean 'num_classes'?"
    assert records.nearest("workers", ["rates", "seed"]) == "known: rates, seed"


def test_a_pair_is_called_one():
    with pytest.raises(UserError, match="size must be a list of 2 values, got 64"):
        records.from_dict(Outer, {"width": 3, "size": 64})
    with pytest.raises(UserError, match="names must be a list, got 'cat'"):
        records.from_dict(Outer, {"width": 3, "names": "cat"})


def test_flatten_is_the_inverse_of_nest():
    flat = {"a.b.c": 1, "a.d": (2, 3), "e": None}
    assert dict(records.flatten(records.nest(flat))) == flat
