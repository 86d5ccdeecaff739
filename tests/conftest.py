"""What tests of several folders share."""

import ctypes
import functools
import gc
import os
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.framework import ops as tf_ops

from tfdet.detectors import cost_measurement

# Graphs are made of many objects; looking for garbage as often as usual takes 7 % of the time.
# What a file leaves behind is looked for at its end.
gc.set_threshold(100_000, 50, 50)

# Until 3.12 Python finds out what a protocol asks for at each isinstance, of which an operation has
# several: a twentieth of the time.
if sys.version_info < (3, 12):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

# Graphs run as they were traced: optimising them takes a fifth of the time to a first step, and
# most run once. What runs in other processes (commands, exports that are proved) is optimised.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

_SHARED = Path(__file__).parents[2] / "shared" / "data"


def _data_directory(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable) or _SHARED / name)
    if not path.is_dir():
        pytest.skip(f"{path} is absent; set {variable} to run this test")
    return path


def pytest_collection_finish() -> None:
    """What was imported stays, and need not be looked at each time; and no traceback is shortened.

    The shortening wraps each call of a layer and of an operation: a tenth of the time of a graph.
    """
    keras.config.disable_traceback_filtering()
    tf.debugging.disable_traceback_filtering()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After each file its models and graphs are let go of, and their memory is given back.

    Not as a fixture: until here a test holds what its fixtures gave it. What is left stays to the
    end, as TensorFlow's records of functions do. Without the freeze all of it is looked through
    again after each file: seconds, for each of the last hundred files.
    """
    result = yield
    if nextitem is None or nextitem.path != item.path:
        _drop()
        gc.freeze()
    return result


@pytest.fixture(autouse=True)
def _keep_small() -> Iterator[None]:
    """What a test lets go of is looked for at once where it is much."""
    before = _memory()
    yield
    if _memory() > before + 250e6:
        gc.collect()
        _give_back()


def _memory() -> int:
    """Bytes that this process has in memory; 0 where only Linux would tell."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * 4096 if pages.exists() else 0


@pytest.fixture(scope="session")
def drop() -> Callable[[], None]:
    """Gives back the memory of models that a file has done with, before its end."""
    return _drop


@pytest.fixture(scope="session")
def forget_gradients() -> Callable[[], None]:
    """Lets go of all graphs with gradients that nothing else holds: after a command, say."""
    return _forget_gradients


def _drop() -> None:
    _forget_gradients()
    while gc.collect():  # what is let go of lets go of more: functions of the graphs that they ran
        pass
    context.context().clear_kernel_cache()
    _give_back()


@pytest.fixture(scope="session", autouse=True)
def _few_timings() -> Iterator[None]:
    """Calibrations time 16 runs and not 90: no test needs times as steady as a user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_measurement, "_SAMPLES", 2)
        patch.setattr(cost_measurement, "_WARM_UPS", 1)
        patch.setattr(cost_measurement, "_REPEATS", 3)
        yield


def _forget_gradients() -> None:
    """Drops the gradients that TensorFlow keeps for ever, and with each the graph that it is of.

    Each call of a function with a gradient of its own, such as `layers.activation.silu`, adds one.
    """
    registry = tf_ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]


_leave_scope = keras.StatelessScope.__exit__


def _leave_and_forget(scope: keras.StatelessScope, *error: object) -> None:
    """A scope whose variables get no values, as those of published models here, forgets them too.

    Keras would give them their values, gigabytes, at the end of any later scope.
    """
    _leave_scope(scope, *error)
    if scope.original_scope is None and not scope.initialize_variables:
        global_state.set_global_attribute("uninitialized_variables", [])


keras.StatelessScope.__exit__ = _leave_and_forget


def _give_back() -> None:
    """The C library keeps what was let go of unless it is told; only glibc can be told."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


@pytest.fixture(scope="module")
def optimized_graphs() -> Iterator[None]:
    """Graphs are optimised before they run, as everywhere outside of this process.

    For files that compare bits with what another process computes, or ask what is optimised.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(scope="session")
def bccd() -> Path:
    """Directory of the BCCD blood cells in VOC form."""
    return _data_directory("TFDET_BCCD", "bccd")


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    """Directory of a few COCO 2017 images in COCO's own layout."""
    return _data_directory("TFDET_COCO_TINY", "coco_tiny")


@pytest.fixture(scope="session")
def fill_by_rule() -> Callable:
    """Gives variables, by their published names, the values that the golden numbers belong to.

    The rule: j is the rank of a name in plain string order, i the flat index in the published
    layout (OIHW for kernels, which are HWIO here).
    """
    return _fill_by_rule


def _fill_by_rule(variables: dict[str, object]) -> None:
    for j, name in enumerate(sorted(variables)):
        variable = variables[name]
        i = np.arange(np.prod(variable.shape), dtype=np.float64)
        if len(variable.shape) == 4:
            variable.assign(_kernel(i, j, variable.shape, "depthwise" in variable.path))
        else:
            variable.assign(_vector(name, i, j))


def _kernel(i: np.ndarray, j: int, shape: tuple[int, ...], is_depthwise: bool) -> np.ndarray:
    height, width, inputs, outputs = shape
    if is_depthwise:
        inputs, outputs = outputs, inputs
    values = np.sqrt(2 / (inputs * height * width)) * np.sin(
        0.61803 * i * (1 + 1e-4 * (i % 97)) + 1 + j
    )
    oihw = values.reshape(outputs, inputs, height, width)
    return oihw.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))


def _vector(name: str, i: np.ndarray, j: int) -> np.ndarray:
    if name.endswith("running_var"):
        return 1 + 0.2 * np.sin(0.3 * i + j) ** 2
    if name.endswith("running_mean"):
        return 0.05 * np.sin(0.5 * i + j)
    if name.endswith("gn.weight"):
        return 1 + 0.1 * np.sin(0.7 * i + j)
    if name.endswith("scales"):
        return 1 + 0.1 * i
    if name.endswith("bias"):
        return 0.05 * np.sin(0.9 * i + j)
    return (0.2 if ".bn3." in name else 1) * (1 + 0.1 * np.sin(0.7 * i + j))


@pytest.fixture(scope="session")
def make_dynamic() -> Callable:
    """Makes a tiny dynamic detector with lively weights, whose router tells images apart."""
    return _make_dynamic


def _make_dynamic(name: str = "dy-efficientdet-test", seed: int = 0, **overrides: object) -> object:
    import keras

    import tfdet

    keras.utils.set_random_seed(seed)
    own = {"num_classes": 3, "class_names": ("a", "b", "c")}
    if name == "dy-efficientdet-test":  # three levels in place of five: two thirds of the graph
        own |= {"first.max_level": 5, "second.max_level": 5}
    model = tfdet.create(name, **{**own, **overrides})
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.6, 1.6, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(random.normal(0, 0.3, variable.shape))
        elif "/fusion/" in variable.path:  # which may begin with zeros
            variable.assign(random.normal(0, 0.2, variable.shape))
        elif "yolov7" in name and "/head/" in variable.path:
            variable.assign(random.normal(0, 1, variable.shape))
    noise = random.uniform(0, 255, (8, *model.image_size, 3)).astype("float32")
    noise[::2] = noise[::2, :1, :1]  # plain images: a router has to tell something apart
    raw = model(noise, training=False)
    roles = {"first": model.first, "second": model.heads_of("second")}
    for role in ("first",) if model.first is roles["second"] else roles:
        for output, (kernel, wanted) in _predictors(roles[role]).items():
            kernel.assign(np.asarray(kernel) * wanted / np.std(raw[role][output]))
    easiness = np.asarray(raw["easiness"], np.float64)
    logits = np.log(easiness / (1 - easiness))
    score = model.router.score
    score.kernel.assign(np.asarray(score.kernel) / logits.std())
    score.bias.assign((np.asarray(score.bias) - logits.mean()) / logits.std())
    return model


def _predictors(part: object) -> dict[str, tuple]:
    """The kernels behind raw predictions, and how far these are to spread."""
    if hasattr(part, "class_net"):  # EfficientDet; the second weight is the pointwise kernel
        nets = {"class_logits": (part.class_net, 1.5), "box_codes": (part.box_net, 0.3)}
        return {name: (net.predictor.weights[1], to) for name, (net, to) in nets.items()}
    if not hasattr(part, "rpn"):
        return {}
    masks = {"mask_logits": (part.mask_head.predict.kernel, 2.0)} if part.mask_size else {}
    return {
        "objectness_logits": (part.rpn.objectness.kernel, 1.5),
        "anchor_codes": (part.rpn.codes.kernel, 0.3),
        "class_logits": (part.box_head.class_dense.kernel, 1.5),
        "box_codes": (part.box_head.box_dense.kernel, 0.5),
        **masks,
    }


@pytest.fixture(scope="module")
def without_graphs() -> Iterator[None]:
    """Runs step by step what is run once or twice: making its graph would take longer."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
