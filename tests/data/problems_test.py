import pytest

from tfdet.data.problems import KINDS, Problems


def test_problems_are_counted_with_a_few_examples():
    problems = Problems(max_examples=2)
    for name in ("a", "b", "b", "c"):
        problems.add("box_outside", name)
    problems.add("crowd", "d", count=3)
    problems.add("empty_image", "e", count=0)
    assert problems.counts == {"box_outside": 4, "crowd": 3}
    assert problems.examples["box_outside"] == ["a", "b"]
    assert problems.lines()[0].endswith("-> clipped to the image (a, b, ...)")


def test_only_what_is_lost_is_damage():
    problems = Problems()
    problems.add("box_no_area", "a", count=2)
    problems.add("exif_rotation", "b")
    assert problems.num_damaged == 2
    assert len(problems.lines()) == 2 and len(problems.lines(damage_only=True)) == 1
    assert problems.as_dict()["exif_rotation"]["action"] == KINDS["exif_rotation"].action


def test_a_damaged_image_counts_once():
    problems = Problems()
    assert problems.add_damaged("truncated_image", "a.jpg")
    assert not problems.add_damaged("missing_image", "a.jpg")
    assert problems.counts == {"truncated_image": 1}


def test_an_unknown_kind_is_a_mistake_of_ours():
    with pytest.raises(KeyError, match="unknown kind of problem 'box_too_nice'"):
        Problems().add("box_too_nice", "a")
