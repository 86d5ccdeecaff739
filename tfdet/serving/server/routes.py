"""The addresses of TensorFlow Serving's REST API."""

import dataclasses
import re

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_STATUS = re.compile(_MODEL + r"(?:/(?P<method>metadata))?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Target:
    """What a request is for.

    Attributes:
        name: of a model.
        version: its number as it was written; None for the one that is served.
        label: another name of a version.
        method: "predict", "classify", "regress", "metadata" or "status".
    """

    name: str
    version: str | None
    label: str | None
    method: str


def match(http_method: str, path: str) -> Target | None:
    """What a request is for; None where TensorFlow Serving has no such address."""
    form = {"POST": _PREDICTION, "GET": _STATUS}.get(http_method)
    found = form.fullmatch(path) if form else None
    if not found:
        return None
    groups = found.groupdict()
    method = (groups.pop("method") or "status").lower()
    return Target(**groups, method=method)
