"""Tests of markup from Python."""

from html.parser import HTMLParser

import pytest

from tfdet.visualization.markup import Markup, element, joined

NASTY = '<script>alert("x")</script>&amp;\'\x1b[31m'


class _Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_text_can_be_no_markup():
    read = _Reader(element("p", NASTY, title=NASTY))
    shown = NASTY.replace("\x1b", "\\x1b")
    assert read.tags == [("p", {"title": shown})]
    assert "".join(read.texts) == shown


def test_markup_and_lists_stay_what_they_are():
    whole = element("ul", [element("li", "a"), (element("li", 1 < 2), None)], Markup("<!-- -->"))
    assert whole == "<ul><li>a</li><li>True</li><!-- --></ul>"
    assert isinstance(whole, Markup)
    assert joined("<", element("b")) == "&lt;<b></b>"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (element("p", class_="a", aria_label="b", title=None), '<p class="a" aria-label="b"></p>'),
        (element("meta", name="x", http_equiv="y"), '<meta name="x" http-equiv="y"/>'),
        (element("rect", element("title", "t"), x=1), '<rect x="1"><title>t</title></rect>'),
    ],
)
def test_attributes(made, expected):
    assert made == expected
