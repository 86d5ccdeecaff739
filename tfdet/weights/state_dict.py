"""The tensors by name in what a checkpoint holds: wrappers taken off, modules flattened."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tfdet.errors import UserError
from tfdet.weights.lazy import LazyTensor
from tfdet.weights.pickles import Record

# Under which keys checkpoints keep their weights; of several the first: averages come before what
# they are averages of.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "blobs",
)
_MOST_WRAPPERS = 4
_MOST_TENSORS = 100_000
_MOST_DEPTH = 64  # of modules in modules
_MOST_LETTERS = 1000
# In front of all names of a model that ran on several devices, or was compiled.
_WRAPPED = ("module.", "_orig_mod.")


class StateDict(NamedTuple):
    """Tensors by their names.

    Attributes:
        tensors: {name: tensor}.
        part: dotted keys under which they were found, "" where the file is the state dict.
    """

    tensors: dict[str, LazyTensor]
    part: str


def find(content: Any) -> StateDict:
    """The state dict in what a checkpoint holds."""
    found = _search(content, ())
    if found is None:
        raise UserError(
            f"it holds no tensors by name, nor a model; {_outline(content)}. Save "
            "model.state_dict() of the network"
        )
    return found


def _search(content: Any, keys: tuple[str, ...]) -> StateDict | None:
    is_module = isinstance(content, Record) and "_modules" in content.attributes
    mapping = content.attributes if isinstance(content, Record) else content
    if not is_module and isinstance(mapping, dict) and len(keys) < _MOST_WRAPPERS:
        for key in _WRAPPERS:
            inner = mapping.get(key)
            if isinstance(inner, (dict, Record)):
                found = _search(inner, (*keys, key))
                if found is not None:
                    return found
    tensors = _tensors(content)
    return StateDict(_unwrapped(tensors), ".".join(keys)) if tensors else None


def _tensors(content: Any) -> dict[str, LazyTensor]:
    if isinstance(content, Record):
        return _collected(_of_module(content))
    if isinstance(content, dict):
        return _collected(
            (name, value)
            for name, value in content.items()
            if isinstance(name, str) and _is_tensor(value)
        )
    return {}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, LazyTensor) and value.dtype != ""  # one of text


def _collected(pairs: Iterator[tuple[str, LazyTensor]]) -> dict[str, LazyTensor]:
    found: dict[str, LazyTensor] = {}
    for name, tensor in pairs:
        found[name] = tensor
        if len(found) > _MOST_TENSORS or len(name) > _MOST_LETTERS:
            raise UserError("it has more tensors, or longer names, than a network can have")
    return found


def _of_module(root: Record) -> Iterator[tuple[str, LazyTensor]]:
    """The parameters and buffers of a module and of those in it, as PyTorch names them.

    A module that stands in two places has two names, as there; one within itself is refused.
    """
    waiting: list[tuple[str, Record, tuple[int, ...]]] = [("", root, ())]
    visits = 0
    while waiting:
        prefix, module, above = waiting.pop()
        visits += 1
        is_long = len(above) > _MOST_DEPTH or len(prefix) > _MOST_LETTERS
        if id(module) in above or is_long or max(visits, len(waiting)) > _MOST_TENSORS:
            raise UserError("its modules are nested without end")
        inside = module.attributes
        skipped = inside.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(inside.get(kind)):
                if _is_tensor(value) and name not in skipped:
                    yield f"{prefix}{name}", value
        path = (*above, id(module))
        children = [
            (f"{prefix}{name}.", child, path)
            for name, child in _items(inside.get("_modules"))
            if isinstance(child, Record)
        ]
        waiting += reversed(children)  # the order of the network


def _items(content: Any) -> list[tuple[str, Any]]:
    if isinstance(content, Record):
        content = content.items
    if not isinstance(content, Mapping):
        return []
    return [(name, value) for name, value in content.items() if isinstance(name, str)]


def _unwrapped(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    for _ in _WRAPPED:  # a model may be both
        for prefix in _WRAPPED:
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
    return tensors


def _outline(content: Any) -> str:
    if isinstance(content, Record):
        return f"it is a {content.name[:80]}"
    if isinstance(content, dict):
        names = [str(key)[:40] for key in list(content)[:5]]
        return f"its keys are {', '.join(names)}" if names else "it is empty"
    return f"it is a {type(content).__name__}"
