"""Each Korean page has the commands, figures, headings and links of its English page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.pages import PAGES, fences

KOREAN = [page for page in PAGES if page.name.endswith(".ko.md")]
QUESTION = re.compile(r'"[^"\n]*\?"')
"""A quoted question, which each page asks in its own language."""
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def english(page: Path) -> Path:
    return page.with_name(page.name.replace(".ko.md", ".md"))


def commands(page: Path) -> list[str]:
    return [QUESTION.sub('"?"', one.text) for fence in fences(page) for one in fence.commands()]


def links(page: Path) -> set[str]:
    """Return the targets of the links. A Korean page links to Korean pages where they exist."""
    targets = {target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))}
    return {target.replace(".ko.md", ".md") for target in targets} - {"", page.name, english(page).name}


def headings(page: Path) -> int:
    return len(re.findall(r"^#+ ", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE))


def figures(page: Path) -> list[str]:
    """Return the decimal numbers and the numbers of four digits, outside of fenced blocks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return sorted(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)|(?<![\w.])\d{1,3}(?:,\d{3})+", text))


def test_the_guides_exist_in_korean() -> None:
    names = {page.name for page in KOREAN}
    assert {"README.ko.md", "QUICKSTART.ko.md", "DATA_FORMAT.ko.md", "TROUBLESHOOTING.ko.md"} <= names


@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.name)
def test_a_korean_page_has_the_same_commands(page: Path) -> None:
    assert commands(page) == commands(english(page)) != []


@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.name)
def test_a_korean_page_has_the_same_structure(page: Path) -> None:
    assert headings(page) == headings(english(page))
    assert links(page) == links(english(page))
    assert figures(page) == figures(english(page))


@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.name)
def test_a_korean_page_is_korean(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert len(re.findall("[가-힣]", prose)) > 700
    assert page.name in english(page).read_text(encoding="utf-8"), "the English page does not link to it"


def test_a_difference_is_seen(tmp_path: Path) -> None:
    shown = '```bash\nqdsft decompose outputs/a "{}?" --json\n```\n'
    for name, text in {"a": "Who", "b": "누구인가요"}.items():
        (tmp_path / name).write_text(shown.format(text), encoding="utf-8")
    assert commands(tmp_path / "a") == commands(tmp_path / "b")
    (tmp_path / "b").write_text(shown.format("누구인가요").replace("--json", "--jsn"), encoding="utf-8")
    assert commands(tmp_path / "a") != commands(tmp_path / "b")
    for name, text in {"a": "4.6 GiB, 1,136 s", "b": "4.6 GiB, 1,316초"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert figures(tmp_path / "a") == ["1,136", "4.6"] != figures(tmp_path / "b")
