"""The patterns of English steps: each step of the generator is read, and few patterns are never needed."""

from __future__ import annotations

import re

import pytest

from qdsft.data.synth import generate
from qdsft.data.synth.english_rules import english_rules

PATTERNS = [re.compile(pattern) for pattern, _ in english_rules()]
STEPS = {
    step for row in [*generate("en", 1500, 1), *generate("en", 300, 1, max_steps=1)] for step in row["sub_questions"]
}


def test_every_step_is_read() -> None:
    assert [step for step in STEPS if not any(pattern.fullmatch(step) for pattern in PATTERNS)] == []


def test_most_patterns_are_needed() -> None:
    first = {next(place for place, one in enumerate(PATTERNS) if one.fullmatch(step)) for step in STEPS}
    assert len(first) > 0.8 * len(PATTERNS)


@pytest.mark.parametrize("step", ["who directed Harbor?", "Who directed Harbor", "Which?"])
def test_nothing_else_is_read(step: str) -> None:
    assert not any(pattern.fullmatch(step) for pattern in PATTERNS)
