"""Text in drawings: characters that can be written, and lines that fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdsft.scoring.report.text import ELLIPSIS, clean, text_width, wrap


def test_characters_that_xml_forbids_are_replaced() -> None:
    assert clean("a\x00b\x1b\ud800\uffff\tc\n<") == "a\ufffdb\ufffd\ufffd\ufffd\tc\n<"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("two words", ["two", "words"]),
        ("영화를 만든", ["영화를", "만든"]),
        ("unbreakable", ["unbreaka", "ble"]),
        ("세우다세우다", ["세우다세우", "다"]),
    ],
)
def test_lines_break_at_spaces_and_else_where_they_must(text: str, lines: list[str]) -> None:
    assert wrap(text, 50, 10, 9) == lines


@given(st.text(), st.integers(30, 300), st.integers(1, 6))
def test_lines_fit_and_nothing_is_lost_without_a_mark(text: str, width: int, most: int) -> None:
    lines = wrap(text, width, 12, most)
    assert 1 <= len(lines) <= most
    assert all(text_width(line, 12) <= width for line in lines)
    if not lines[-1].endswith(ELLIPSIS):
        assert "".join(lines).replace(" ", "") == "".join(text.split())


def test_a_huge_text_is_wrapped_at_once() -> None:
    lines = wrap("긴" * 1_000_000, 200, 12, 6)
    assert len(lines) == 6 and lines[-1].endswith("긴…")


def test_wide_characters_are_measured_as_wide() -> None:
    assert text_width("한국어", 10) == 30 and text_width("🎬", 10) > 10
    assert text_width("e\u0301", 10) == text_width("e", 10)
    assert text_width("iiii", 10) < text_width("nnnn", 10) < text_width("MMMM", 10)
