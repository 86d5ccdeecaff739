"""Keys and values of recipes that have other names now; the old ones are read for one release.

A renamed key is one line in `RENAMED`, a renamed value one in `VALUES`. `current` brings a recipe's
plain data up to date and warns the user.
"""

from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from tfdet import records

# (value of the old key, value that the new key has so far or None) -> value of the new key. None
# leaves the new key out. What changes nothing is not reported: return `present` for a value that
# was the default, since training folders of that time have it.
Translate = Callable[[Any, Any], Any]


def _rule(expression: str) -> Translate:
    """A factor of the learning rate as the rule of `train.rates` with this expression."""

    def translate(factor: Any, present: Any) -> Any:
        if present is not None and not isinstance(present, list):
            return present  # no list of rules, which the recipe's own check says
        rules = [rule for rule in present or [] if rule[:1] != [expression]]
        if factor != 1:
            rules.append([expression, factor])
        return rules if rules or present else present

    return translate


RENAMED: dict[str, tuple[str, Translate]] = {
    "train.bias_factor": ("train.rates", _rule("(bias|beta)$")),
    "train.router_factor": ("train.rates", _rule("router")),
    # The second training of tfdet-search.
    "finetune.bias_factor": ("finetune.rates", _rule("(bias|beta)$")),
    "finetune.router_factor": ("finetune.rates", _rule("router")),
}

# "cosine" was the name of the default, and so stands in nearly all training folders of that time.
VALUES: dict[str, dict[Any, Any]] = {
    "train.schedule": {"cosine": "efficientdet_cosine"},
    "finetune.schedule": {"cosine": "efficientdet_cosine"},
}


def current(data: Mapping[str, Any], is_typed: bool = True) -> dict[str, Any]:
    """A recipe's nested plain data with the keys of today; each old key that counts is warned of.

    An old key acts on what the new one has so far, as if it came after it.

    Args:
        data: of the recipe.
        is_typed: whether a user wrote it. Old values in what a command has written are read in
            silence.
    """
    data = _copy(data)
    _rename_values(data, is_typed)
    for old, (new, translate) in RENAMED.items():
        section, _, name = old.rpartition(".")
        home = _section(data, section)
        if name not in home:
            continue
        value = home.pop(name)
        section, _, name = new.rpartition(".")
        present = _section(data, section).get(name)
        translated = translate(value, present)
        if translated == present:
            continue
        data = records.merge(data, records.nest({new: translated}))
        logging.warning(
            "%s=%s is an old key, read as %s=%s; write that instead, the next release does not "
            "read the old one",
            *(old, value, new, translated),
        )
    return data


def _rename_values(data: dict[str, Any], is_typed: bool) -> None:
    for key, names in VALUES.items():
        section, _, name = key.rpartition(".")
        home = _section(data, section)
        old = home.get(name)
        if not isinstance(old, str) or old not in names:
            continue
        home[name] = names[old]
        if is_typed:
            logging.warning(
                "%s=%s is an old name of %s; write that, or half_cosine, whose rate falls to the "
                "end in runs of any length",
                *(key, old, names[old]),
            )


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in data.items()}


def _section(data: dict[str, Any], dotted: str) -> dict[str, Any]:
    """The dict at a dotted path; an empty one where there is none."""
    for name in dotted.split("."):
        data = data.get(name)
        if not isinstance(data, dict):
            return {}
    return data
