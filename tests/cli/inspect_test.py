import json

import pytest

from tfdet.cli import inspect


def test_json_has_the_counts_of_each_part(capsys):
    words = ["--model_name=efficientdet-test", "--image_size=96,64", "--format=json"]
    assert inspect.COMMAND.run(inspect.main, words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["image_size"] == [96, 64]
    assert printed["macs"] == sum(part["macs"] for part in printed["parts"].values()) > 0
    assert printed["trainable"] == printed["parameters"] < printed["parameters_total"]


def test_frozen_weights_are_parameters(capsys):
    words = ["--model_name=packdet-r50", "--format=json"]
    assert inspect.COMMAND.run(inspect.main, words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["parameters"], printed["trainable"]) == (31_591_962, 31_591_962 - 222_400)


def test_the_work_of_a_cascade_is_that_of_its_most_expensive_path(capsys):
    words = ["--model_name=dy-yolov7-test", "--format=json"]
    assert inspect.COMMAND.run(inspect.main, words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["macs"] == printed["routes"]["late"] > printed["routes"]["early"]
    # No image needs the first neck and head and the second detector.
    unused = sum(printed["parts"][f"first_{name}"]["macs"] for name in ("neck", "head"))
    assert printed["macs"] + unused == sum(part["macs"] for part in printed["parts"].values())


def test_hparams_change_the_model(capsys):
    words = ["--model_name=efficientdet-test", "--format=json"]
    inspect.COMMAND.run(inspect.main, words)
    before = json.loads(capsys.readouterr().out)["parameters"]
    inspect.COMMAND.run(inspect.main, [*words, "--hparams=model.fpn_fusion=sum"])
    # Eight nodes lose their weights: five with two inputs, three with three.
    assert before - json.loads(capsys.readouterr().out)["parameters"] == 5 * 2 + 3 * 3


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        pytest.param(
            *("caddet-fcos", "640,800", {"floor": 482.0, "cheapest": 744.5, "all_open": 6306.7}),
            marks=pytest.mark.slow,
        ),
        ("caddet-test", "64,64", None),
    ],
)
def test_routes_of_a_grid_are_counted(name, size, expected, capsys):
    words = [f"--model_name={name}", f"--image_size={size}", "--format=json"]
    assert inspect.COMMAND.run(inspect.main, words) == 0
    routes = json.loads(capsys.readouterr().out)["routes"]
    assert list(routes) == ["floor", "cheapest", "all_open"]
    assert 0 < routes["floor"] < routes["cheapest"] < routes["all_open"]
    if expected:
        assert {key: round(macs / 1e6, 1) for key, macs in routes.items()} == expected


def test_text_is_a_table(capsys):
    assert inspect.COMMAND.run(inspect.main, ["--model_name=efficientdet-test"]) == 0
    assert capsys.readouterr().out.startswith("efficientdet-test, one image of 64x64\n")


def test_without_a_model_names_are_listed_by_family(capsys):
    assert inspect.COMMAND.run(inspect.main, []) == 0
    printed = capsys.readouterr().out
    assert "\nefficientdet\n  efficientdet-d0\n" in printed
    assert "  efficientdet-nano\n" in printed and "-test" not in printed
    assert inspect.COMMAND.run(inspect.main, ["--format=json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        line.strip() for line in printed.splitlines() if line.startswith("  ")
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--image_size=64"], "--image_size must be HEIGHT,WIDTH in pixels, got 64"),
        (["--image_size=64,-1"], "got 64,-1"),
        (["--image_size=64,64"], "--image_size needs a model"),
        (
            ["--image_size=4,4", "--model_name=efficientdet-test"],
            "at least 8 on each side, got 4x4",
        ),
        (["--model_name=efficientdet-d9"], "did you mean 'efficientdet-d"),
        (["--hparams=model.fpn_widht=3"], "did you mean 'fpn_width'"),
        (["--hparams=model.image_size=[2,2]"], "image_size must be at least 8 on each side"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, capsys):
    assert inspect.COMMAND.run(inspect.main, words) > 0
    errors = capsys.readouterr().err
    assert errors.startswith("tfdet-inspect: ") and sentence in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--saved_model=/no/where"], "there is no such folder"),
        (["--saved_model=m", "--model_name=efficientdet-test"], "takes no --model_name"),
    ],
)
def test_mistakes_about_exports_are_one_sentence(words, sentence, capsys):
    assert inspect.COMMAND.run(inspect.main, words) > 0
    errors = capsys.readouterr().err
    assert errors.startswith("tfdet-inspect: ") and sentence in errors
    assert errors.count("\n") == 1
