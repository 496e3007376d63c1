"""Parse the SVG and HTML that tests draw."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "br"}


def parse(svg: str) -> ElementTree.Element:
    """Return the root of a drawing. Raise ParseError if the drawing is not well-formed XML."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
    assert root.tag == "svg" and root[0].tag == "title"
    assert (root.get("aria-label") or "").split() == (root[0].text or "").split()
    return root


def texts(root: ElementTree.Element) -> list[str]:
    """Return the text of every `<text>`, in order."""
    return ["".join(element.itertext()) for element in root.iter("text")]


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return all elements of a class, in order."""
    return [element for element in root.iter() if name in (element.get("class") or "").split()]


def drawings(html: str) -> list[str]:
    """Return every `<svg>` of a page."""
    return re.findall(r"<svg.*?</svg>", html, re.DOTALL)


def cells(html: str) -> list[list[str]]:
    """Return the text of every table row, cell by cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [[Page(cell).text for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


class Page(HTMLParser):
    """The tags and the text of a page. Raises AssertionError if tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """Return all text between tags."""
        return "".join(self.words)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every tag with this name."""
        return [attributes for name, attributes in self.tags if name == tag]
