"""Throws wrong calls at the native op: each must end in an error or in the right values.

The slow test is the long run. Under AddressSanitizer, which sees every read and write outside a
tensor (`custom_ops/asan.sh` builds the library and runs this):

    pytest -m slow tests/ops/pack_fuzz_test.py
"""

import os

import numpy as np
import pytest
import tensorflow as tf

from tests.ops import pack_cases
from tfdet.ops import pack_native

HUGE = (-(2**63), -(2**31), -2, -1, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)


def _valid_call(random):
    layout = pack_cases.random_layout(random, most=8)
    batch, channels = int(random.integers(0, 3)), int(random.integers(0, 5))
    return {
        "corners": [int(side) for box in layout.boxes for side in box[:2]],
        "sizes": [[batch, h, w, channels] for h, w in layout.sizes],
        "canvas": [layout.height, layout.width, 0],
        "packed": [batch, layout.height, layout.width, channels],
        "dtype": str(random.choice(pack_cases.DTYPES)),
    }


def _nudged(random, value):
    if random.random() < 0.3:
        return int(random.choice(HUGE))
    return int(value + random.integers(-3, 4))


def _damage(random, call):
    """Changes one thing: a corner, a number of corners, a size, a rank, or the number of maps."""
    kind = random.integers(0, 6)
    shapes = [*call["sizes"], call["canvas"], call["packed"]]
    shape = shapes[int(random.integers(0, len(shapes)))]
    if kind == 0 and call["corners"]:
        at = int(random.integers(0, len(call["corners"])))
        call["corners"][at] = _nudged(random, call["corners"][at])
    elif kind == 1:
        call["corners"] = call["corners"][: int(random.integers(0, len(call["corners"]) + 1))]
    elif kind == 2:
        call["corners"] = call["corners"] + [0] * int(random.integers(1, 150))
    elif kind == 3 and shape:
        at = int(random.integers(0, len(shape)))
        shape[at] = max(0, int(shape[at] + random.integers(-3, 4)))
    elif kind == 4:
        if shape and random.random() < 0.5:
            shape.pop(int(random.integers(0, len(shape))))
        else:
            shape.insert(int(random.integers(0, len(shape) + 1)), int(random.integers(0, 4)))
    elif kind == 5:
        at = int(random.integers(0, len(call["sizes"])))
        if random.random() < 0.5 and len(call["sizes"]) > 1:
            call["sizes"].pop(at)
        else:
            call["sizes"] *= int(random.choice([2, 9]))


def _is_fit(call, shapes):
    """Whether the call is right after all, told without the op's own code."""
    corners, (height, width) = call["corners"], call["canvas"][:2]
    if len(corners) != 2 * len(shapes) or len(shapes) > 64:
        return False
    covered = np.zeros((height, width), int)
    for x, y, (h, w) in zip(corners[::2], corners[1::2], shapes, strict=True):
        if min(x, y) < 0 or min(h, w) < 1 or x + w > width or y + h > height:
            return False
        covered[y : y + h, x : x + w] += 1
    return covered.max(initial=0) <= 1


def _filled(random, shape, dtype):
    return random.integers(-99, 99, shape).astype(tf.as_dtype(dtype).as_numpy_dtype)


def _try_pack(random, call):
    library = pack_native._load()
    maps = [_filled(random, shape, call["dtype"]) for shape in call["sizes"]]
    ranks = {len(shape) for shape in call["sizes"]} == {4} and len(call["canvas"]) == 3
    ends = {(shape[0], shape[-1]) for shape in call["sizes"] if shape}
    is_fit = ranks and len(ends) == 1 and _is_fit(call, [s[1:3] for s in call["sizes"]])
    try:
        size = np.zeros(call["canvas"], np.int8)
        packed = library.tfdet_pack(maps=maps, size=size, corners=call["corners"])
    except (tf.errors.OpError, ValueError):
        assert not is_fit, call
        return False
    assert is_fit, call
    expected = np.zeros(packed.shape, packed.numpy().dtype)
    for x, y, part in zip(call["corners"][::2], call["corners"][1::2], maps, strict=True):
        expected[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    pack_cases.assert_same_bits(packed, expected)
    return True


def _try_unpack(random, call):
    library = pack_native._load()
    packed = _filled(random, call["packed"], call["dtype"])
    sizes = [[*shape[1:3], 0] for shape in call["sizes"]]
    is_fit = len(call["packed"]) == 4 and all(len(size) == 3 for size in sizes)
    call = {**call, "canvas": call["packed"][1:3]}
    is_fit = is_fit and _is_fit(call, [size[:2] for size in sizes])
    try:
        tensors = [np.zeros(size, np.int8) for size in sizes]
        maps = library.tfdet_unpack(packed=packed, sizes=tensors, corners=call["corners"])
    except (tf.errors.OpError, ValueError):
        assert not is_fit, call
        return False
    assert is_fit, call
    for x, y, part in zip(call["corners"][::2], call["corners"][1::2], maps, strict=True):
        inside = packed[:, y : y + part.shape[1], x : x + part.shape[2]]
        pack_cases.assert_same_bits(part, inside)
    return True


def _fuzz(count, seed):
    """Tries `count` damaged calls of each op; returns how many of them were right after all."""
    random, right = np.random.default_rng(seed), 0
    for _ in range(count):
        call = _valid_call(random)
        for _ in range(int(random.integers(1, 4))):
            _damage(random, call)
        right += _try_pack(random, call)
        right += _try_unpack(random, call)
    return right


def test_wrong_calls_end_in_errors_and_right_ones_in_right_values():
    pack_cases.require_native()
    count = 400
    assert 0 < _fuzz(count, seed=0) < count  # of 2 * count calls: most are wrong, some are not


@pytest.mark.slow
def test_twenty_thousand_wrong_calls():
    pack_cases.require_native()
    count = int(os.environ.get("TFDET_FUZZ_CALLS", "16000"))
    right = _fuzz(count, seed=1)
    print(f"{2 * count - right} wrong calls ended in errors, {right} were right")
    assert 2 * count - right >= min(20_000, count)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corners": [0, 0, 1, 0]}, "map 0 .*2x2 at x=0, y=0.* and map 1 .*overlap"),
        ({"corners": [0, 0, 3, 0]}, "map 1 .*at x=3, y=0.* outside the packed map of 2x4"),
        ({"corners": [0, 0, -1, 0]}, "map 1 .*at x=-1.* outside"),
        ({"corners": [0, 0, 2**63 - 1, 0]}, "outside"),
        ({"corners": [0, 0]}, "corners must be x and y of each of 2 maps, got 2 numbers"),
        ({"corners": [0] * 999}, "expected at most 128 numbers, got 999"),
        ({"sizes": [[1, 2, 2, 3], [2, 2, 2, 3]]}, "map 1 has 2 and 3"),
        ({"sizes": [[1, 2, 2, 3], [1, 2, 2, 4]]}, "map 1 has 1 and 4"),
        ({"sizes": [[1, 2, 2, 3], [1, 2, 2]]}, "input 1 must have 4 dimensions, got 3"),
        ({"sizes": [[1, 2, 2, 3], [1, 0, 2, 3]]}, "map 1 .*is empty"),
        ({"canvas": [2, 4]}, "input 2 must have 3 dimensions, got 2"),
        ({"canvas": [2, 0, 4]}, "outside"),
        ({"canvas": [0, 2**40, 4]}, "sides below 2"),
        ({"canvas": [2**31 - 1, 2**31 - 1, 0], "sizes": [[2**31, 2, 0, 3]] * 2}, "is empty"),
        (
            {"canvas": [0, 2**31 - 1, 2**31 - 1][::-1], "sizes": [[2**40, 1, 2, 0]] * 2},
            "too large to be addressed",
        ),
    ],
)
def test_errors_name_the_map_and_the_cause(change, message):
    pack_cases.require_native()
    call = {"corners": [0, 0, 2, 0], "sizes": [[1, 2, 2, 3]] * 2, "canvas": [2, 4, 0], **change}
    maps = [tf.zeros(shape) for shape in call["sizes"]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        size = tf.zeros(call["canvas"], tf.int8)
        pack_native._load().tfdet_pack(maps=maps, size=size, corners=call["corners"])


def test_contradicting_static_shapes_are_refused_while_the_graph_is_built():
    pack_cases.require_native()

    def build(first, second, size):
        def pack(first, second, size):
            library = pack_native._load()
            return library.tfdet_pack(maps=[first, second], size=size, corners=[0, 0, 2, 0])

        return (
            tf.function(pack, autograph=False)
            .get_concrete_function(first, second, size)
            .output_shapes
        )

    def spec(*shape):
        return tf.TensorSpec(shape)

    size, anything = tf.TensorSpec((2, 4, 0), tf.int8), tf.TensorSpec(None)
    assert build(spec(None, 2, 2, 3), spec(5, 2, 2, None), size) == (5, 2, 4, 3)
    unknown = build(anything, anything, tf.TensorSpec(None, tf.int8))
    assert unknown.as_list() == [None] * 4
    with pytest.raises(ValueError, match="same batch size, got 1 and 2"):
        build(spec(1, 2, 2, 3), spec(2, 2, 2, 3), size)
    with pytest.raises(ValueError, match="same number of channels, got 3 and 4"):
        build(spec(1, 2, 2, 3), spec(1, 2, 2, 4), size)
    with pytest.raises(ValueError, match="rank 4"):
        build(spec(1, 2, 2, 3), spec(2, 2, 3), size)
