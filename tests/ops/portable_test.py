"""Portable operations are wanted within their block alone."""

import pytest

from tfdet.ops import portable


def test_wanted_within_and_not_after():
    assert not portable.is_wanted()
    with pytest.raises(KeyError), portable.operations():
        with portable.operations():
            pass
        assert portable.is_wanted()
        raise KeyError
    assert not portable.is_wanted()


def test_conditions_nest_but_where_a_runtime_is_wrong_about_it():
    assert portable.nests()
    with portable.operations(has_nesting=False):
        assert not portable.nests()
        with portable.operations():
            assert portable.nests()
        assert not portable.nests()
    assert portable.nests()
