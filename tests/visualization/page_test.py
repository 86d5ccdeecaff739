import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tfdet.visualization import page, plots
from tfdet.visualization.markup import element
from tfdet.visualization.page import Picture
from tfdet.visualization.plots import Stack

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
        page.figure(EVIL, picture),
        page.table([EVIL], [[EVIL, page.class_name(0, EVIL)]]),
        page.note(EVIL),
        plots.stacked([EVIL], [Stack(EVIL, [3], "s1")], EVIL, EVIL, EVIL),
    ]
    html = page.document(
        EVIL, EVIL, [page.tiles([(EVIL, EVIL)])], [page.Section("a", EVIL, content)], EVIL
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


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (40, 30)])
def test_pictures_are_fitted(size):
    fitted, scale = page.fitted(np.zeros((*size, 3), np.uint8), 100)
    assert max(fitted.shape[:2]) == 100 and min(fitted.shape[:2]) >= 1
    assert scale == 100 / max(size)


def test_markup_is_not_escaped_twice():
    assert page.note(element("b", "<")) == '<p class="note"><b>&lt;</b></p>'


def test_the_window_and_the_heading_have_their_own_words():
    html = page.document("of the window", "at the top", ["below"], [], "at the end")
    assert "<title>of the window</title>" in html
    assert "<header><h1>at the top</h1>below</header>" in html
    assert "<footer>at the end</footer>" in html


def test_pictures_have_their_size_so_that_the_page_does_not_jump():
    first, second = (Picture(f"data:{i}", 30, 20, f"words {i}") for i in range(2))
    assert page.figure("x", first).count("<img") == 1
    both = page.figure("a <caption>", first, second, class_="pair")
    assert both.count('width="30" height="20"') == 2
    assert both.index('alt="words 0"') < both.index('alt="words 1"')
    assert both.startswith('<figure class="pair">')
    assert "<figcaption>a &lt;caption&gt;</figcaption>" in both
