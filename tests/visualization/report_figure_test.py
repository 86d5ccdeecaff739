"""Tests of pictures with captions."""

from tfdet.visualization import report_figure
from tfdet.visualization.report_pictures import Picture, Shown


def test_pictures_have_their_size_so_that_the_page_does_not_jump():
    first, second = (Picture(f"data:{i}", 30, 20, f"words {i}") for i in range(2))
    pair = report_figure.side_by_side(Shown(0, first, second), "a <caption>")
    assert pair.count("<img") == 2
    assert pair.index('alt="words 0"') < pair.index('alt="words 1"')
    assert 'width="30" height="20"' in pair
    assert "<figcaption>a &lt;caption&gt;</figcaption>" in pair
    assert report_figure.single(first, "x").count("<img") == 1
