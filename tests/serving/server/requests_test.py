"""Tests of bodies: what TensorFlow Serving takes is taken, all else is refused in words."""

import base64
import json

import numpy as np
import pytest

from tfdet.serving.server.refusal import Refusal
from tfdet.serving.server.requests import InputSpec, parse_predict

BYTES, UINT8, FLOAT, INT = (np.dtype(x) for x in (object, np.uint8, np.float32, np.int32))
EFFORT = InputSpec(FLOAT, None, is_optional=True)
SIGNATURES = {
    "serving_default": {"images": InputSpec(UINT8, (None, None, None, None))},
    "serving_encoded": {"encoded": InputSpec(BYTES, (None,))},
    "dynamic": {"encoded": InputSpec(BYTES, (None,)), "effort": EFFORT},
    "scalar": {"encoded": InputSpec(BYTES, (None,)), "threshold": InputSpec(FLOAT, (), True)},
    "serving_fitted": {
        "fitted": InputSpec(FLOAT, (None, 2, 1, 3)),
        "scale": InputSpec(FLOAT, (None,)),
        "size": InputSpec(INT, (None, 2)),
    },
}
B64 = {"b64": base64.b64encode(b"\xff\x00image").decode()}


def _parse(document, signature=None):
    if signature:
        document = {"signature_name": signature, **document}
    return parse_predict(json.dumps(document).encode(), SIGNATURES)


def _refusal(body):
    with pytest.raises(Refusal) as raised:
        parse_predict(body if isinstance(body, bytes) else json.dumps(body).encode(), SIGNATURES)
    assert raised.value.status == 400
    return raised.value.message


def test_rows_and_columns_give_the_same_arrays():
    pixels = np.arange(2 * 2 * 1 * 3).reshape(2, 2, 1, 3)
    row = _parse({"instances": pixels.tolist()})
    named = _parse({"instances": [{"images": image.tolist()} for image in pixels]})
    column = _parse({"inputs": pixels.tolist()})
    both = _parse({"inputs": {"images": pixels.tolist()}})
    for request in (row, named, column, both):
        np.testing.assert_array_equal(request.inputs["images"], pixels)
        assert request.inputs["images"].dtype == np.uint8
        assert request.signature == "serving_default"
    assert [request.is_row for request in (row, named, column, both)] == [True, True, False, False]


@pytest.mark.parametrize("signature", ["dynamic", "scalar"])
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_a_bare_value_is_the_only_input_without_a_default(signature, form):
    inputs = _parse({form: [B64, B64]}, signature).inputs
    assert inputs.keys() == {"encoded"}
    assert inputs["encoded"].tolist() == [b"\xff\x00image"] * 2


@pytest.mark.parametrize("b64", [B64["b64"], B64["b64"].rstrip("="), B64["b64"][:4] + "\n" + "%s"])
def test_bytes_come_as_base64_also_without_padding_and_over_lines(b64):
    value = {"b64": b64.replace("%s", B64["b64"][4:])}
    for document in (
        {"instances": [value]},
        {"instances": [{"encoded": value}]},
        {"inputs": [value]},
        {"inputs": {"encoded": [value]}},
    ):
        found = _parse(document, "serving_encoded").inputs["encoded"]
        assert found.tolist() == [b"\xff\x00image"]


def test_plain_strings_are_their_bytes():
    found = _parse({"instances": ["/etc/passwd", "größe"]}, "serving_encoded").inputs["encoded"]
    assert found.tolist() == [b"/etc/passwd", "größe".encode()]


def test_an_empty_batch_is_one_in_columns():
    assert _parse({"inputs": {"encoded": []}}, "serving_encoded").inputs["encoded"].shape == (0,)


def test_efforts_are_scalar_or_one_per_image_or_left_out():
    one = _parse({"inputs": {"encoded": [B64, B64], "effort": 0.5}}, "dynamic")
    assert one.inputs["effort"].shape == ()
    each = _parse({"instances": [{"encoded": B64, "effort": e} for e in (0, 0.25)]}, "dynamic")
    assert each.inputs["effort"].tolist() == [0.0, 0.25]
    assert "effort" not in _parse({"inputs": {"encoded": [B64]}}, "dynamic").inputs
    assert _parse({"inputs": {"encoded": [B64], "threshold": 0.5}}, "scalar").inputs


def test_min_effort_is_beside_the_inputs():
    document = {"inputs": {"encoded": [B64]}}
    assert _parse(document, "dynamic").min_effort == 0.0
    assert _parse({**document, "min_effort": 0.4}, "dynamic").min_effort == 0.4
    for wrong in (-0.1, 1.1, "1", True, None, [0.5]):
        assert "min_effort must be" in _refusal(
            {**document, "min_effort": wrong, "signature_name": "dynamic"}
        )


def test_fitted_images_have_three_inputs():
    request = _parse(
        {"inputs": {"fitted": [[[[0.5, 1, 2]], [[3, 4, 5]]]], "scale": [0.5], "size": [[7, 9]]}},
        "serving_fitted",
    )
    assert request.inputs["fitted"].dtype == np.float32
    assert request.inputs["size"].tolist() == [[7, 9]]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON that can be read"),
        (b'{"instances": ' + b"9" * 10_000 + b"}", "is not JSON"),
        ([], "must be a JSON object, got a list"),
        ({}, 'either "instances" (rows) or "inputs"'),
        ({"instances": [1], "inputs": [1]}, 'either "instances" (rows) or "inputs"'),
        ({"instances": []}, "at least one element"),
        ({"instances": {"images": 1}}, "must be a list"),
        ({"instances": [1], "signature_name": 7}, "must be a string"),
        ({"instances": [1], "signature_name": "x" * 500}, "there is no signature xxx"),
        ({"instances": [1], "signature_name": "metadata"}, "there is no signature metadata"),
        ({"instances": [1]}, "must have the shape [any, any, any, any], got [1]"),
        ({"inputs": [[[[1, 2], [3]]]]}, "must have equal lengths"),
        ({"inputs": [[[[1, [2]]]]]}, "must have equal lengths"),
        ({"inputs": [[[[0.5]]]]}, "must have whole numbers, got a number"),
        ({"inputs": [[[["1"]]]]}, "must have whole numbers, got a string"),
        ({"inputs": [[[[True]]]]}, "must have whole numbers, got true or false"),
        ({"inputs": [[[[None]]]]}, "must have whole numbers, got null"),
        ({"inputs": [[[[{}]]]]}, "must have whole numbers, got an object"),
        ({"inputs": [[[[256]]]]}, "does not fit into uint8"),
        ({"inputs": [[[[-1]]]]}, "does not fit into uint8"),
        ({"inputs": [[[[10**30]]]]}, "does not fit into uint8"),
        ({"inputs": {"pixels": [1]}}, "must have the keys images, got pixels"),
        ({"inputs": {}}, "must have the keys images, got none"),
        ({"instances": [{"images": [[[1]]]}, [[[1]]]]}, "instances[1] must be an object"),
    ],
)
def test_other_bodies_are_refused_in_words(body, sentence):
    assert sentence in _refusal(body)


@pytest.mark.parametrize(
    ("signature", "inputs", "sentence"),
    [
        ("serving_encoded", {"encoded": [1]}, 'must have strings or {"b64": "..."}, got a number'),
        ("serving_encoded", {"encoded": [{"b64": "?"}]}, "is not base64"),
        ("serving_encoded", {"encoded": [{"b64": "a"}]}, "is not base64"),
        ("serving_encoded", {"encoded": [{"b64": "größe"}]}, "is not base64"),
        ("serving_encoded", {"encoded": [{"b64": 1}]}, "got an object"),
        ("serving_encoded", {"encoded": ["\ud800"]}, "is not Unicode"),
        ("serving_encoded", {"encoded": "one"}, "must have the shape [any], got []"),
        ("dynamic", {"encoded": [B64], "effort": [0.5, 1]}, "equally many rows, got encoded 1"),
        ("dynamic", {"encoded": [B64], "effort": "1"}, "must have numbers, got a string"),
        ("dynamic", {"encoded": [B64], "effort": [[1]]}, "must have the shape [] or [B]"),
        ("dynamic", {"encoded": [B64], "effort": float("nan")}, "does not fit into float32"),
        ("dynamic", {"encoded": [B64], "effort": 1e39}, "does not fit into float32"),
        ("dynamic", {"effort": 1.0}, "must have the keys effort, encoded, got effort"),
        ("serving_fitted", [1.0], "inputs must be an object with the keys"),
        ("scalar", {"encoded": [B64], "threshold": [0.5]}, "must have the shape [], got [1]"),
    ],
)
def test_inputs_of_another_form_are_refused_in_words(signature, inputs, sentence):
    assert sentence in _refusal({"signature_name": signature, "inputs": inputs})


def test_one_long_string_among_many_takes_its_own_memory_alone():
    strings = [*["a"] * 2000, "b" * 5_000_000]  # 40 GB as an array of text
    assert _parse({"inputs": strings}, "serving_encoded").inputs["encoded"].nbytes < 1e6
