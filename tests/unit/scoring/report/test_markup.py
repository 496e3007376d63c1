"""Templates escape every value that is not markup."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from qdsft.scoring.report import markup
from qdsft.scoring.report.markup import render


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(markup._ENVIRONMENT, "loader", jinja2.FileSystemLoader(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["a.html", "a.svg"])
def test_text_is_escaped_and_markup_is_not(folder: Path, name: str) -> None:
    (folder / name).write_text('<p title="{{ a }}">{{ a }}{{ b }}</p>\n', encoding="utf-8")
    found = render(name, a="<i>\x00\ud800\"'&", b=Markup("<b>x</b>"))
    text = "&lt;i&gt;\ufffd\ufffd&#34;&#39;&amp;"
    assert isinstance(found, Markup) and found == f'<p title="{text}">{text}<b>x</b></p>'


def test_a_value_that_is_missing_is_an_error(folder: Path) -> None:
    (folder / "a.html").write_text("{{ a }}", encoding="utf-8")
    with pytest.raises(jinja2.UndefinedError):
        render("a.html")


def test_numbers_are_short(folder: Path) -> None:
    (folder / "a.svg").write_text("{{ a | short }} {{ b | short }}", encoding="utf-8")
    assert render("a.svg", a=2.0, b=1 / 3) == "2 0.3"
