"""The parts that pages are made of. A page is one self-contained file: it has its style in it, and no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from qdsft.scoring.report.markup import TEMPLATES, render

STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Cell:
    """A cell of a table, with a second line in small print."""

    text: str
    small: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table of numbers, in which the first cell of a row is the name of the row."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """A drawing, its name and a note."""

    name: str
    drawing: Markup
    note: str = ""


def render_page(template: str, title: str, **values: object) -> str:
    """Return a whole HTML document: a template that extends page.html."""
    return f"{render(template, title=title, style=Markup(STYLE), **values)}\n"
