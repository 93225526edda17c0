"""A page is one file that fetches nothing, and no text of its makers' can break it."""

import re
from html.parser import HTMLParser

from mpt.render.html import Html, Section, drawing, folded, page, paragraph, table
from mpt.render.plots import figure, inline

VOID = {"meta", "br", "hr"}


class Tags(HTMLParser):
    """Checks that every element is closed; collects texts and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.attributes, self.names = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


EVIL = "<script>alert('&')</script>\""


def whole() -> str:
    parts = [
        paragraph(EVIL),
        table((EVIL, "share"), [(EVIL, "1.0")]),
        folded(EVIL, [paragraph("inside")]),
        drawing(inline(figure()[0], EVIL), EVIL),
    ]
    return page(EVIL, EVIL, [Section(EVIL, parts), Section("second", [])])


def test_text_is_escaped_everywhere_and_elements_are_closed():
    read = Tags()
    read.feed(whole())
    read.close()
    assert read.open == [] and "script" not in read.names
    assert read.texts.count(EVIL) == 10
    assert ("aria-label", EVIL) in read.attributes


def test_html_of_ours_goes_in_as_it_is():
    assert "<b>so</b>" in table(("a",), [(Html("<b>so</b>"),)])


def test_page_fetches_nothing():
    read = Tags()
    read.feed(whole())
    links = [value for name, value in read.attributes if name in ("href", "src", "xlink:href", "data")]
    assert links and all(link.startswith(("#", "data:image/")) for link in links)
    assert not re.search(r"@import|url\((?!#)", whole())
    assert not {"link", "iframe", "object", "img"} & set(read.names)


def test_a_page_uses_the_width_of_a_desk_and_lets_nothing_be_wider_than_a_telephone():
    (widest,) = re.findall(r"^body \{.*max-width: (\d+)rem", whole(), re.M)
    assert 16 * int(widest) >= 1400
    assert not re.findall(r"<svg[^>]*min-width", whole())


def test_contents_lead_to_the_sections():
    text = whole()
    assert (
        re.findall(r'href="#(part-\d)"', text) == re.findall(r'id="(part-\d)"', text) == ["part-0", "part-1"]
    )
