"""Text, JSON and YAML that users give: read within limits, so that none of it can hang or crash.

What cannot be read is a `UserError` that names the place.
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import yaml

from tfdet import limits
from tfdet.errors import UserError


def read_text(path: str | os.PathLike[str], what: str, most: int | None = None) -> str:
    """The contents of a text file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        what: it is, for messages.
        most: bytes that it may have; None for `limits.MAX_TEXT_BYTES`.
    """
    most = limits.MAX_TEXT_BYTES if most is None else most
    try:
        with open(path, "rb") as file:
            content = bytearray()
            while len(content) <= most and (part := file.read(1 << 20)):
                content += part
    except OSError as error:
        raise unreadable(path, what, error) from None
    if len(content) > most:
        raise too_large(path, what, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise not_text(path, what) from None


def read_yaml(path: str | pathlib.Path, what: str) -> Any:
    """The contents of a small YAML file."""
    return parse_yaml(read_text(path, what, limits.MAX_YAML_BYTES), f"{what} {path}")


def parse_json(text: str, where: str) -> Any:
    """What a JSON text says; `where` it stands, for messages."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_json(where, error) from None


def unreadable(path: str | os.PathLike[str], what: str, error: OSError) -> UserError:
    """The error of a file that the system does not give."""
    return UserError(f"{what} {path} cannot be read: {error.strerror}")


def too_large(path: str | os.PathLike[str], what: str, most: int) -> UserError:
    """The error of a file of more than `most` bytes."""
    return UserError(f"{what} {path} cannot be read: it has more than {most} bytes")


def not_text(path: str | os.PathLike[str], what: str) -> UserError:
    """The error of a file in another encoding."""
    return UserError(f"{what} {path} is not a text file in UTF-8; save it as such")


def not_json(where: str | os.PathLike[str], problem: str | Exception) -> UserError:
    """The error of a text that is not JSON; `problem` may be an exception of `json`."""
    if isinstance(problem, RecursionError):
        problem = "values are nested too deep"
    return UserError(f"{where} is not a JSON file: {problem}")


def parse_yaml(text: str, where: str, as_text: bool = False) -> Any:
    """What a YAML text says.

    No key stands twice, since the first of two values would be lost without a word. A number with
    a colon, which YAML 1.1 takes for minutes and seconds, is text, and so is a date.

    Args:
        text: YAML.
        where: it stands, for messages.
        as_text: all values stay text as it is written: no, 1.0 and null too.
    """
    try:
        return yaml.load(text, _TextLoader if as_text else _Loader)  # both are safe ones
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{where} is not YAML{line}: {problem}") from None


class _Bounded:
    """What both loaders add to those of PyYAML."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}  # of what has an anchor

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                _refuse(f"*{event.anchor} stands within what it repeats", event.start_mark)
            self._count(self._sizes.get(event.anchor, 0), event)
            return super().compose_node(parent, index)
        before = self._values
        self._count(1, event)
        self._depth += 1
        if self._depth > limits.MAX_DEPTH:
            _refuse("values are nested too deep", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._values - before
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key, _ in pairs:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                _refuse(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _count(self, values: int, event: Any) -> None:
        self._values += values
        if self._values > limits.MAX_YAML_VALUES:
            _refuse(f"it has more than {limits.MAX_YAML_VALUES} values", event.start_mark)


_MERGE = "tag:yaml.org,2002:merge"


class _Loader(_Bounded, yaml.SafeLoader):
    pass


class _TextLoader(_Bounded, yaml.BaseLoader):
    pass


def _refuse(problem: str, mark: Any) -> None:
    raise yaml.constructor.ConstructorError(None, None, problem, mark)


def _scalar(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A constructor of PyYAML that refuses in place of failing."""

    def read(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        if ":" in text:
            return text
        if len(text) > limits.MAX_NUMBER_LETTERS:
            _refuse(f"a number of {len(text)} digits is too long", node.start_mark)
        try:
            return construct(loader, node)
        except (ValueError, LookupError):
            _refuse(f"{text!r} cannot be read as {node.tag.rpartition(':')[2]}", node.start_mark)

    return read


for _tag in ("int", "float", "bool"):
    _constructor = yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{_tag}"]
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _scalar(_constructor))
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_scalar)
