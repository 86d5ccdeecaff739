import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tfdet.visualization import page
from tfdet.visualization.markup import element

EVIL = "<script>alert(1)</script>\"'&"


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_a_document_takes_nothing_from_anywhere_and_shows_texts_as_texts():
    picture = page.encoded(np.zeros((4, 6, 3), np.uint8), EVIL)
    content = [
        page.figure(picture, EVIL),
        page.table([EVIL], [[EVIL, page.class_name(0, EVIL)]]),
        page.note(EVIL),
        page.stacked([EVIL], [page.Stack(EVIL, [3], "s1")], EVIL, EVIL, EVIL),
    ]
    html = page.document(
        EVIL, [page.tiles([(EVIL, EVIL)])], [page.Section("a", EVIL, content)], EVIL
    )
    reader = _Tags()
    reader.feed(html)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in reader.seen}
    addresses = [
        value for _, attrs in reader.seen for key, value in attrs.items() if key in ("src", "href")
    ]
    assert all(value.startswith(("data:", "#")) for value in addresses)
    assert not any(key.startswith("on") for _, attrs in reader.seen for key in attrs)
    assert not re.search(r"url\(|@import|https?://", html)


@pytest.mark.parametrize("counts", [[[0, 0]], [[1, 5], [2, 0]], [[10**7, 1]]])
def test_columns_are_as_high_as_their_counts(counts):
    stacks = [page.Stack(f"n{i}", own, "s1") for i, own in enumerate(counts)]
    html = page.stacked(["a", "b"], stacks, "x", "y", "title")
    heights = [float(x) for x in re.findall(r'<rect [^>]*height="([\d.]+)"', html)]
    assert len(heights) == sum(c > 0 for own in counts for c in own)
    if heights:
        most = max(map(sum, zip(*counts, strict=True)))
        expected = [c / most * 172 for column in zip(*counts, strict=True) for c in column if c]
        np.testing.assert_allclose(heights, np.maximum(expected, 0.5), atol=0.06)


def test_long_labels_leave_room_for_each_other():
    labels = [f"{i}–{i + 999}" for i in range(0, 20000, 1000)]
    html = page.stacked(labels, [page.Stack("n", [1] * 20, "s1")], "x", "y", "t")
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="200"', html)]
    assert len(places) > 1 and min(np.diff(places)) > 6 * max(map(len, labels))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (40, 30)])
def test_pictures_are_fitted(size):
    fitted, scale = page.fitted(np.zeros((*size, 3), np.uint8), 100)
    assert max(fitted.shape[:2]) == 100 and min(fitted.shape[:2]) >= 1
    assert scale == 100 / max(size)


def test_markup_is_not_escaped_twice():
    assert page.note(element("b", "<")) == '<p class="note"><b>&lt;</b></p>'
