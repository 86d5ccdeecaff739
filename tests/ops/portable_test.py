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
