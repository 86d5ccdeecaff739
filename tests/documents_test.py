import pytest

from tfdet import documents, limits
from tfdet.errors import UserError


def test_text_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_text("cat\n", encoding="utf-8-sig")
    assert documents.read_text(tmp_path / "a.txt", "list") == "cat\n"


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (None, "list .* cannot be read: No such file"),
        (b"\xff", "is not a text file in UTF-8"),
        (b"12345", "has more than 4 bytes"),
    ],
)
def test_text_that_cannot_be_read(tmp_path, content, piece):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=piece):
        documents.read_text(tmp_path / "a.txt", "list", most=4)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000])
def test_damaged_json_is_named(text):
    with pytest.raises(UserError, match=r"a\.json is not a JSON file"):
        documents.parse_json(text, "a.json")


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("a: [1", "r is not YAML in line 1: expected ',' or ']'"),
        ("a: 1\na: 2\n", "in line 2: the key 'a' stands twice"),
        ("&a {b: *a}", r"\*a stands within what it repeats"),
        ("a: *b", "undefined alias"),
        ("[" * 2000, "nested too deep"),
        ("{a: " * 2000, "nested too deep"),
        (BOMB, "more than 100000 values"),
        ("a: " + "9" * 5000, "a number of 5000 digits is too long"),
        ("a: 0x" + "9" * 5000, "a number of 5002 digits is too long"),
        ("a: !!int x", "'x' cannot be read as int"),
        ("a: !!bool x", "'x' cannot be read as bool"),
        ("!!map x", "expected a mapping node"),
        ("? [a]\n: b\n", "unhashable key"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_damaged_yaml_is_named(text, piece):
    with pytest.raises(UserError, match=piece):
        documents.parse_yaml(text, "r")


def test_yaml_of_the_usual_kind_is_read():
    text = "base: &b {x: 1, y: 1.5}\nmore: {<<: *b, z: [yes, no, ~, 1e-3, 0x4]}\n"
    assert documents.parse_yaml(text, "r") == {
        "base": {"x": 1, "y": 1.5},
        "more": {"x": 1, "y": 1.5, "z": [True, False, None, "1e-3", 4]},
    }


def test_times_and_dates_are_text():
    text = "[1:30, 1:30.5, 2020-01-01, 2020-99-99, 2001-12-14t21:59:43.10-05:00]"
    assert all(isinstance(value, str) for value in documents.parse_yaml(text, "r"))


def test_all_of_it_can_stay_as_it_is_written():
    assert documents.parse_yaml("names: [1, yes, null, 1.0]", "d", as_text=True) == {
        "names": ["1", "yes", "null", "1.0"]
    }
    with pytest.raises(UserError, match="nested too deep"):
        documents.parse_yaml("[" * 100, "d", as_text=True)


def test_large_files_of_yaml_are_not_read(tmp_path):
    (tmp_path / "r.yaml").write_text("a: 1\n" + "#" * limits.MAX_YAML_BYTES)
    with pytest.raises(UserError, match="has more than"):
        documents.read_yaml(tmp_path / "r.yaml", "recipe")
