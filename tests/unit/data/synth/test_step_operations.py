"""Operations refuse what their subject does not have, so that a step about the wrong thing has no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qdsft.data.synth.interpreter import CannotAnswer, Interpreter
from qdsft.data.synth.step_operations import StepOperations, bind, kept

WORLD = StepOperations("en")


@pytest.mark.parametrize(
    "call",
    [
        lambda: WORLD.follow("director", "Lorin"),
        lambda: WORLD.value("pages", "Harbor"),
        lambda: WORLD.members("director", "film", "Harbor"),
        lambda: WORLD.count("Harbor"),
        lambda: WORLD.difference("Harbor", "Bridge"),
        lambda: WORLD.same("Harbor", "Lorin"),
        lambda: WORLD.follow("director", "#1"),
    ],
)
def test_the_wrong_subject_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        call()


def test_an_entity_may_have_no_members() -> None:
    assert WORLD.members("director", "film", "Oren Kane") == ()


def test_operations_are_bound_to_their_first_arguments() -> None:
    assert bind(StepOperations.value, "pages")(WORLD, x="Map") == 351
    with pytest.raises(IndexError):
        kept("pages", True)(WORLD, x="#1", n="1,000")


@pytest.mark.parametrize(
    "steps",
    [
        ["Which people star in Harbor?", "Which of #1 has the highest number in #1?"],
        [
            "Which people star in Harbor?",
            "In which year was each of #1 born?",
            "Which people star in Bridge?",
            "Which of #3 has the lowest number in #2?",
        ],
    ],
)
def test_numbers_of_another_group_are_refused(steps: list[str]) -> None:
    with pytest.raises(CannotAnswer):
        Interpreter("en").answer(steps)
