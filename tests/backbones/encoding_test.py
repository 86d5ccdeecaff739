"""Encodings: what is legal, what comes back from files, what builds."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet import config, registry
from tfdet.backbones.encoding import (
    Block,
    Encoding,
    encoding_of_widths,
    load_encoding,
    parse_encoding,
    resnet_encoding,
)
from tfdet.backbones.resnet import STYLES, ResNet
from tfdet.detectors.joint_detnas import FOUND
from tfdet.errors import UserError

TINY = [[[8, 8, 16]], [[8, 6, 20], [4, 8, 20]], [[8, 8, 20], [7, 9, 24]], [[5, 6, 8]]]


@st.composite
def encodings(draw):
    """Legal encodings of any depth, width, grouping and arrangement."""
    is_basic = draw(st.booleans())
    before = stem = draw(st.integers(1, 12))
    stages = []
    for number in range(1, 5):
        blocks = []
        for index in range(draw(st.integers(1, 3))):
            group_width, groups = draw(st.integers(1, 4)), draw(st.integers(1, 3))
            if is_basic:
                inner, groups = [draw(st.integers(1, 12))], 1
            elif groups > 1:
                inner = [groups * group_width] * 2
            else:
                inner = [draw(st.integers(1, 12)), draw(st.integers(1, 12))]
            width = draw(st.sampled_from([before, draw(st.integers(1, 12))]))
            stride = 2 if number > 1 and index == 0 else 1
            projection = stride > 1 or width != before or draw(st.booleans())
            blocks.append(Block((*inner, width), stride, projection, groups))
            before = width
        stages.append(tuple(blocks))
    return Encoding(tuple(stages), stem, draw(st.booleans()), draw(st.sampled_from([0.0, 1e-5])))


@given(encodings())
@settings(max_examples=40, deadline=None)
def test_any_legal_encoding_comes_back_from_each_form(encoding):
    for text in (encoding.to_text(), encoding.to_json()):
        assert parse_encoding(text) == encoding
    again = parse_encoding(encoding.to_text())
    assert hash(again) == hash(encoding) and again.digest == encoding.digest
    assert len(encoding.to_table().splitlines()) == 1 + sum(encoding.depths)
    assert dataclasses.replace(encoding, stem=encoding.stem) == encoding


@given(encodings())
@settings(max_examples=15, deadline=None)
def test_any_legal_encoding_builds_with_the_widths_that_it_says(encoding):
    with keras.StatelessScope(initialize_variables=False):
        body = ResNet(encoding, levels=(2, 3, 4, 5))
        maps = body(keras.KerasTensor((1, 33, 64, 3)))
    sizes = ((9, 16), (5, 8), (3, 4), (2, 2))
    expected = [(1, *s, w) for s, w in zip(sizes, encoding.out_widths, strict=True)]
    assert [tuple(x.shape) for x in maps.values()] == expected


def test_digests_are_the_same_in_every_process():
    assert FOUND["r18"].digest == "fda81c59940e"
    assert len({encoding.digest for encoding in STYLES.values()}) == len(STYLES)


def test_the_papers_form_is_that_of_the_students():
    assert FOUND["r18"].to_paper() == (
        "[[[64,64]],[[128,128],[128,128]],[[256,256],[256,256]],[[512,512],[512,512]]]"
    )
    assert parse_encoding(FOUND["r101"].to_paper()) == FOUND["r101"]
    assert FOUND["r101"].to_paper().endswith("[511,478,2031],[507,503,2031],[491,477,2031]]]")
    assert [e.depths for e in FOUND.values()] == [
        *((1, 2, 2, 2), (3, 4, 6, 3)),
        *((3, 4, 20, 5), (3, 4, 23, 5)),
    ]
    assert FOUND["r101"].out_widths == (202, 300, 321, 2031)


def test_a_projection_is_where_the_shortcut_changes_and_moved_blocks_keep_their_group_width():
    last = FOUND["r101"].stages[3]
    assert [(b.stride, b.projection) for b in last] == [(2, True), (1, False), (1, True)] + [
        (1, False)
    ] * 2
    assert not any(b.projection for b in FOUND["r18"].stages[0])
    assert [(b.groups, b.group_width) for b in FOUND["x101"].stages[3]] == [
        *((24, 16), (22, 16)),
        *((32, 32), (27, 32), (12, 32)),
    ]


def test_the_published_resnets_are_encodings():
    widths = [[(s, s, 4 * s)] * n for s, n in ((64, 3), (128, 4), (256, 6), (512, 3))]
    assert encoding_of_widths(widths) == STYLES["r50-3x3"]
    widths = [[(s, s, 2 * s)] * n for s, n in ((128, 3), (256, 4), (512, 23), (1024, 3))]
    assert encoding_of_widths(widths, group_width=4) == STYLES["x101-32x4d"]
    assert encoding_of_widths([[(x, x)] * 2 for x in (64, 128, 256, 512)]) == STYLES["r18"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": TINY[:3]}, "must have 4 stages, got 3"),
        ({"stages": [*TINY[:3], []]}, "stage 4 has no block"),
        ({"stages": [[[8, 8, 16], [8, 16]], *TINY[1:]]}, "stage 1, block 1 has 2 widths, but the"),
        ({"stages": [[[8]], *TINY[1:]]}, "stage 1, block 0 must have 2 widths .* or 3"),
        ({"stages": [[[8, 0, 16]], *TINY[1:]]}, "stage 1, block 0: each width must be at least 1"),
        ({"stages": [[[8, 8.5, 16]], *TINY[1:]]}, "stage 1, block 0 must have whole numbers.*8.5"),
        ({"stages": [[[8, True, 16]], *TINY[1:]]}, "whole numbers, got True"),
        ({"stages": [[[]], *TINY[1:]]}, r"stage 1, block 0 must have 2 widths .* got \[\]"),
        ({"stages": [[8, 8, 16], *TINY[1:]]}, "stage 1, block 0 must be a list, got 8"),
        ({"stages": [5, *TINY[1:]]}, "stage 1 must be a list, got 5"),
        ({"stem": 0}, "stem must be at least 1 channel"),
    ],
)
def test_wrong_widths_are_refused_with_the_reason(changes, said):
    with pytest.raises(UserError, match=said):
        encoding_of_widths(**{"stages": TINY, **changes})


@pytest.mark.parametrize(
    ("stage", "index", "changes", "said"),
    [
        (2, 0, {"stride": 1}, "stage 2, block 0 must have stride 2, got 1: the first block of"),
        (2, 1, {"stride": 2}, "stage 2, block 1 must have stride 1, got 2"),
        (1, 0, {"stride": 2}, "stage 1, block 0 must have stride 1"),
        (3, 0, {"projection": False}, "stage 3, block 0 takes 20 channels to 20 with stride 2, so"),
        (3, 1, {"projection": False}, "stage 3, block 1 takes 20 channels to 24 with stride 1, so"),
        (2, 0, {"groups": 2}, "stage 2, block 0: with groups its first two widths must be equal"),
        (1, 0, {"groups": 3}, "stage 1, block 0: 8 channels cannot be split into 3"),
        (1, 0, {"groups": 0}, "stage 1, block 0: groups must be at least 1, got 0"),
        (1, 0, {"dilation": 0}, "stage 1, block 0: dilation must be at least 1, got 0"),
        (4, 0, {"stride": 3}, "stage 4, block 0 must have stride 2, got 3"),
        (4, 0, {"dilation": 2, "deformable": True}, "deformable convolution cannot be dilated"),
    ],
)
def test_wrong_blocks_are_refused_with_the_reason(stage, index, changes, said):
    stages = [list(blocks) for blocks in encoding_of_widths(TINY).stages]
    stages[stage - 1][index] = dataclasses.replace(stages[stage - 1][index], **changes)
    with pytest.raises(UserError, match=said):
        Encoding(tuple(map(tuple, stages)))


def test_the_last_stage_may_keep_its_map():
    dilated = resnet_encoding((1, 1, 1, 3), stem=8, group_width=8, dilated=True)
    assert [(b.stride, b.dilation) for b in dilated.stages[3]] == [(1, 1), (1, 2), (1, 2)]
    assert (dilated.last_level, resnet_encoding((1, 1, 1, 3)).last_level) == (4, 5)
    assert parse_encoding(dilated.to_text()) == parse_encoding(dilated.to_json()) == dilated
    assert "identity, dilation 2" in dilated.to_table()


def test_basic_blocks_have_no_groups():
    with pytest.raises(UserError, match="only bottlenecks have groups"):
        resnet_encoding((1, 1, 1, 1), groups=2, basic=True)
    with pytest.raises(UserError, match="only bottlenecks have groups, deformable or dilated"):
        resnet_encoding((1, 1, 1, 2), basic=True, dilated=True)
    with pytest.raises(UserError, match="130 channels are no whole groups of 4"):
        encoding_of_widths([[(130, 130, 256)]] * 4, group_width=4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON in line 1"),
        ("[" * 100_000, "cannot be read"),
        ("3", "must be a mapping of keys, got 3"),
        ("{}", "lacks the key 'stages'"),
        ('{"stages": [], "stages": []}', "the key 'stages' stands twice"),
        ('{"stagse": []}', "unknown key 'stagse'; did you mean 'stages'?"),
        ('{"stages": [[{"widhts": [8, 8]}]]}', "unknown key .*'widths'"),
        ('{"stages": [[{"widths": "8, 8"}]]}', "must be a list, got '8, 8'"),
        ('{"stages": [[{"widths": [8, "8"]}]]}', "must be a whole number, got '8'"),
        ('{"stages": [[{"widths": [8, 8], "stride": true}]]}', "stride must be a whole number"),
        ('{"stages": [[{"stride": 1}]]}', "lacks the key 'widths'"),
        ('{"stages": [[{"widths": [8, 8]}]], "epsilon": NaN}', "must have 4 stages, got 1"),
        (json.dumps({"stages": []}), "must have 4 stages, got 0"),
        ("[[[8, 8]], [[8, 8]]]", "must have 4 stages, got 2"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
    ],
)
def test_broken_files_are_refused_with_their_name(tmp_path, content, said):
    path = tmp_path / "student.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said) as error:
        load_encoding(path)
    assert "student.json" in str(error.value)


def test_missing_files_are_told():
    with pytest.raises(UserError, match=r"encoding /no/such.json cannot be read: No such file"):
        load_encoding("/no/such.json")


@pytest.mark.parametrize("name", ["faster-rcnn-test", "mask-rcnn-test", "fcos-test"])
def test_a_recipe_builds_what_a_file_says_and_needs_the_file_no_more(tmp_path, name):
    path = tmp_path / "student.json"
    encoding = encoding_of_widths(TINY)
    path.write_text(encoding.to_json())
    recipe = config.make_recipe([f"model.name={name},model.backbone={path}"])
    path.unlink()
    config.save_recipe(recipe, tmp_path / "recipe.yaml")
    assert config.load_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.model_config().backbone == encoding


def test_encodings_change_registered_ones_and_travel_in_saved_models():
    encoding = encoding_of_widths(TINY)
    for form in (encoding, encoding.to_paper(), dataclasses.asdict(encoding)):
        made = registry.config("joint-detnas-r18", backbone=form)
        assert made.backbone == encoding
        assert json.loads(json.dumps(config.records.to_dict(made)))["backbone"]["stem"] == 64
    with pytest.raises(UserError, match=r"backbone must be text, got 3"):
        registry.config("faster-rcnn-r18", backbone=3)
    with pytest.raises(UserError, match=r"unknown key 'backbone.stag'"):
        registry.config("faster-rcnn-r18", backbone={"stag": []})


def test_a_detector_with_an_encoding_is_saved_and_comes_back(tmp_path):
    encoding = encoding_of_widths(TINY, stem=4)
    model = registry.create("fcos-test", backbone=encoding, frozen_stages=1)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config and again.backbone.style == encoding
    np.testing.assert_array_equal(again(image)["class_logits"], model(image)["class_logits"])
