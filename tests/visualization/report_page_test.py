"""Tests of the report's page, also in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, findings, report
from tfdet.visualization import report_page
from tfdet.visualization.report_pictures import Gallery

A, B = (10, 10, 60, 60), (100, 20, 160, 80)
NASTY = '<script>alert("x")</script>'
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _page(evaluator, **more):
    boxes, masks = analysis.analyse(findings.of(evaluator)), None
    if evaluator.masks is not None:
        masks = analysis.analyse(findings.of(evaluator, of_masks=True), of_masks=True)
    figures = {
        "written_by": "a test",
        "model": "toy",
        "data": "planted",
        "left_out": 0,
        **report.figures(boxes, evaluator.result(), masks),
        **more,
    }
    return report_page.report_page(figures, Gallery(boxes))


@pytest.fixture(scope="module")
def lively_page():
    return _page(planted.lively())


class _Page(HTMLParser):
    """The elements of a page; an element that is not closed where it should be is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def _text(page):
    return re.sub(r"\s+", " ", " ".join(page.texts))


def test_the_page_needs_nothing_else(lively_page):
    page = _Page(lively_page)
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object")]
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:", "#")), (tag, name, value[:60])
    assert not re.search(r"url\(|@import", lively_page)
    policy = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_links_lead_to_sections_and_pictures_are_described(lively_page):
    page = _Page(lively_page)
    sections = {a["id"] for tag, a in page.tags if tag == "section"}
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert links == sections >= {"numbers", "errors", "classes", "confusion", "worst"}
    images = [a for tag, a in page.tags if tag == "img"]
    assert len(images) >= 2 * 12 + 6
    assert all(a["alt"] and int(a["width"]) > 0 for a in images)
    assert all(a["aria-label"] for tag, a in page.tags if tag == "svg")


def test_the_numbers_of_the_page_are_those_of_the_figures(lively_page):
    metrics = planted.lively().result()
    text = _text(_Page(lively_page))
    for name in ("AP", "AP50", "AP75", "APs"):
        assert f"{name} {100 * metrics[name]:.1f}" in text
    assert "60 images" in text
    for kind in ("class", "location", "both", "duplicate", "background", "missed"):
        assert f"{kind} +" in text


def test_names_are_no_markup():
    names = (NASTY, "</style><b>", "a&amp;b " + "x" * 200)
    rows = [[(0, 0.9, A), (1, 0.8, A), (2, 0.7, B)]]
    page = _Page(_page(planted.evaluated([[(0, A), (2, B)]], rows, names), model=NASTY, data=NASTY))
    assert "script" not in {tag for tag, _ in page.tags}
    text = _text(page)
    assert text.count(NASTY) >= 4
    assert "a&amp;b" in text
    assert {tag for tag, _ in page.tags} >= {"html", "table", "svg", "img"}


@pytest.mark.parametrize(
    ("objects", "rows", "names"),
    [
        ([[(0, A)], []], [[], []], ("only",)),
        ([[], []], [[(0, 0.5, A)], []], ("only",)),
        ([[]], [[]], ("only",)),
        ([[(0, A)]], [[(0, 0.9, A)]], ("only",)),
        ([[(0, A, True)]], [[(0, 0.9, A)]], ("only", "other")),
        ([[(7, A), (79, B)]], [[(7, 0.9, A), (3, 0.8, B)]], tuple(f"c{i}" for i in range(80))),
    ],
    ids=["no detection", "no object", "nothing", "no mistake", "a crowd", "80 classes"],
)
def test_a_page_of_next_to_nothing_is_a_page(objects, rows, names):
    text = _page(planted.evaluated(objects, rows, names))
    _Page(text)
    assert not re.search(r"\b(nan|None|inf)\b", text.split("</style>")[1])


def test_masks_have_a_section():
    def outline(box):
        left, top, right, bottom = box
        return [[left, top, right, top, right, bottom]]

    evaluator = planted.evaluated([[(0, A)]], [[(0, 0.9, A)]], segmentations=outline, masks=True)
    page = _Page(_page(evaluator))
    assert "masks" in [a["id"] for tag, a in page.tags if tag == "section"]
    assert "AP of the masks" in _text(page)


_LOOK = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  const broken = images.filter((image) => !image.complete || !image.naturalWidth).length;
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const wide = document.documentElement.scrollWidth - innerWidth;
  document.body.dataset.seen = JSON.stringify({images: images.length, broken, wide});
});
</script>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_without_a_network_shows_it_without_an_error(lively_page, tmp_path, width):
    """Also no wider than the screen: of a desktop, and of a phone."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        pytest.skip("no browser: Chromium is not installed")
    looked_at = lively_page.replace("style-src", "script-src 'unsafe-inline'; style-src", 1)
    looked_at = looked_at.replace('loading="lazy"', "")
    path = tmp_path / "report.html"
    path.write_text(looked_at.replace("</body>", f"{_LOOK}</body>"), encoding="utf-8")
    found = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(
                "--enable-logging=stderr",
                "--proxy-server=127.0.0.1:1",
                f"--window-size={width},800",
            ),
            *(f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    messages = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    assert messages == []
    (seen,) = re.findall(r'data-seen="([^"]*)"', found.stdout)
    seen = json.loads(seen.replace("&quot;", '"'))
    assert seen["images"] > 30
    assert seen["broken"] == 0
    assert seen["wide"] <= 0
