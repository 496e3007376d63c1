"""Plain English: no phrase that a reader must solve, in code, help and pages."""

from __future__ import annotations

import re

import pytest
from helpers.pages import PAGES
from helpers.paths import ROOT

RIDDLES = re.compile(
    r"\b(goes on|go on with|made anew|anew|said aloud|is said\b|of (its|their|your|our) own\b|stands in\b|stands above|"
    r"hangs? on\b|what of it|"
    r"without a word|as it comes|as they come|at hand|is left as long as|computes? (as few|all) layers twice)\b",
    re.IGNORECASE,
)
RIDDLES_OF_PAGES = re.compile(
    r"\b(to go on\b|goes? on\b|stands? (beside|there|behind)|hang on a hair|need be\b|one an epoch|"
    r"what is (known|wanted)|(is|are) taken on what|wants `?(some|a |the |disk|--)|say nothing else)|"
    r"(?<!model )\bcards?\b (of|with|that|has|have|holds|takes?)\b|\b(one|several|24 GB|8 GB|80 GB) cards?\b",
    re.IGNORECASE,
)
"""Phrases that pages also avoid. "card" means a model card; the chip is a GPU."""
TEXTS = [page for page in PAGES if not page.name.endswith(".ko.md")]
TEXTS += [
    ROOT / name for name in ("CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "data/DATA_FORMAT.md", "Makefile")
]
TEXTS += [path for path in (ROOT / ".github").rglob("*") if path.is_file()]
FILES = [
    *(ROOT / "qdsft").rglob("*.py"),
    *(ROOT / "scripts").rglob("*.py"),
    *(ROOT / "scripts").rglob("*.sh"),
    *(ROOT / "benchmarks").glob("*.py"),
    *(path for path in (ROOT / "tests").rglob("*.py") if path.name != "test_language.py"),
    *(ROOT / "recipes").rglob("*.yaml"),
    *TEXTS,
]


def riddles(line: str, page: bool) -> bool:
    return bool(RIDDLES.search(line) or (page and RIDDLES_OF_PAGES.search(line)))


def test_no_phrase_must_be_solved() -> None:
    assert len(TEXTS) > 30
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
        if riddles(line, path in TEXTS)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "an interrupted run goes on with --resume",
        "in a process of its own",
        "A key vanishes without a word",
        "without data of your own",
        "one card of a machine that has several",
        "Loss is taken on what follows",
        "There is one an epoch; for more, give",
        "and `qdsft push` wants `--force`",
    ],
)
def test_such_phrases_are_seen(line: str) -> None:
    assert riddles(line, page=True)


@pytest.mark.parametrize("line", ["the model card has the metrics", "A model card of the run", "requires `--force`"])
def test_plain_lines_pass(line: str) -> None:
    assert not riddles(line, page=True)
