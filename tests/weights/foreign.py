"""Checkpoints of other projects by their names and shapes, and models that are filled from them."""

import collections
import functools
import gzip
import json
import pathlib
import zlib

import keras
import numpy as np

from tfdet import registry

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "weights"


def networks(project):
    """The networks whose names and shapes a file in `tests/fixtures/weights` has."""
    return list(_fixture(project))


def shapes(project, network):
    """{name: shape} of a network's tensors."""
    return {name: tuple(shape) for name, shape in _fixture(project)[network].items()}


@functools.cache
def _fixture(project):
    with gzip.open(FIXTURES / f"{project}.json.gz", "rt") as file:
        return json.load(file)


def value(name, shape):
    """The tensor of a name, the same in every process; statistics and biases are no trivial ones.

    Kernels keep the size of what they see, and the last norm of a residual block makes its branch
    small, so that numbers neither fade nor grow in a deep network.
    """
    u = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape).astype("float32")
    if name.endswith(("running_var", "moving_variance")):
        return 1 + 0.5 * u
    if name.endswith(("bias", "running_mean", "implicit", "_b")) or len(shape) < 2:
        scale = 1.0 if name.endswith("weight") else 0.1
        middle = 1.0 if name.endswith("weight") else 0.0
        branch = 0.3 if ".bn3." in name else 1.0
        return branch * (middle + 0.1 * scale * u)
    return u * np.float32(np.sqrt(5 / np.prod(shape[1:])))


def tensors(shapes):
    """All tensors of a checkpoint by `value`."""
    return {name: value(name, shape) for name, shape in shapes.items()}


def unfilled(name, **settings):
    """A model whose variables have shapes and no values, which takes a tenth of the time."""
    with keras.StatelessScope(initialize_variables=False):
        model = registry.detector_class(name).from_record(registry.config(name, **settings), name)
        model.build_variables()
    return model


def created(source, name, shapes, **overrides):
    """A model with the settings that a source wants, without values, and its entries."""
    model = unfilled(name, **{**source.settings(name, shapes), **overrides})
    return model, source.entries(model, shapes)


def filled(source, name, tensors, **overrides):
    """A model with a checkpoint's tensors."""
    found = {key: tuple(x.shape) for key, x in tensors.items()}
    model = registry.create(name, **{**source.settings(name, found), **overrides})
    for entry in source.entries(model, found):
        if entry.variable is not None:
            assert entry.assign(np.asarray(tensors[entry.name])), entry.name
    return model


def check_entries(entries, shapes, variables):
    """Every tensor has its entry, and every variable is filled exactly once."""
    assert {x.name for x in entries} == set(shapes)
    wrong = {x.name: x.shape for x in entries if x.shape != shapes[x.name]}
    assert wrong == {}
    for entry in entries:
        if entry.variable is not None and not _is_number(entry):
            array = np.zeros(entry.shape, np.float32)
            array = array if entry.convert is None else entry.convert(array)
            assert array.size == np.prod(entry.variable.shape), entry.name
    groups = collections.defaultdict(list)
    for entry in entries:
        if entry.variable is not None:
            groups[id(entry.variable)].append(entry)
    # A vector may have a tensor for each of its numbers.
    counts = {i: 1 if _is_split(found) else len(found) for i, found in groups.items()}
    paths = {id(v): v.path for v in variables}
    assert [paths.get(i, "not of the model") for i, n in counts.items() if n != 1] == []
    missing = [path for i, path in paths.items() if i not in counts]
    assert missing == []
    assert len(counts) == len(paths)


def _is_number(entry):
    return np.prod(entry.shape) == 1 < np.prod(entry.variable.shape)


def _is_split(entries):
    return all(map(_is_number, entries)) and len(entries) == np.prod(entries[0].variable.shape)


def image(size):
    """The seeded pixels 0-255 [1, *size, 3] that a project's network has seen."""
    return np.random.RandomState(size[0]).randint(0, 256, (1, *size, 3)).astype(np.float32)


def outputs(project):
    """{key: a summary} of what a project's networks gave with the tensors of `value`."""
    with np.load(FIXTURES / f"{project}_outputs.npz") as file:
        return dict(file)


def summary(output):
    """Of an output, as a vector: the largest absolute value, mean, deviation, 200 numbers."""
    flat = np.asarray(output, np.float64).ravel()
    chosen = np.random.RandomState(0).randint(0, flat.size, 200)
    return np.array([np.abs(flat).max(), flat.mean(), flat.std(), *flat[chosen]], np.float32)


def summaries_differ(found, expected):
    """The largest difference of a summary, over the largest absolute value in the output."""
    return np.abs(np.float64(found) - expected).max() / expected[0]


def difference(found, expected):
    """The largest difference over the largest absolute value."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()
