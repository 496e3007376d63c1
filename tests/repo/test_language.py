"""Plain English: no phrase that a reader must solve, in code, help, and the pages for contributors."""

from __future__ import annotations

import re

import pytest
from helpers.paths import ROOT

RIDDLES = re.compile(
    r"\b(goes on|go on with|made anew|anew|said aloud|is said\b|of its own\b|stands in\b|stands above|"
    r"hangs? on\b|what of it|"
    r"without a word|as it comes|as they come|at hand|is left as long as|computes? (as few|all) layers twice)\b",
    re.IGNORECASE,
)
FILES = [
    *(ROOT / "qdsft").rglob("*.py"),
    *(ROOT / "scripts").rglob("*.py"),
    *(ROOT / "scripts").rglob("*.sh"),
    *(ROOT / "benchmarks").glob("*.py"),
    *(ROOT / name for name in ("CONTRIBUTING.md", "docs/OVERVIEW.md")),
]


def test_no_phrase_must_be_solved() -> None:
    assert FILES
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
        if RIDDLES.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ["an interrupted run goes on with --resume", "in a process of its own", "A key vanishes without a word"]
)
def test_such_phrases_are_seen(line: str) -> None:
    assert RIDDLES.search(line)
