"""Steps answered by their sentences alone. tests/unit/data/synth/test_world.py proves the generator's steps with it."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.data.synth import generate
from qdsft.data.synth.interpreter import CannotAnswer, Interpreter, agrees
from qdsft.errors import UserError

ENGLISH, KOREAN = Interpreter("en"), Interpreter("ko")


@pytest.mark.parametrize(
    ("interpreter", "steps", "answer"),
    [
        (ENGLISH, ["Who directed Harbor?"], "Dara Holm"),
        (ENGLISH, ["Who directed Harbor?", "Which city was #1 born in?"], "Tamsel"),
        (ENGLISH, ["Who wrote Map?", "Who directed Harbor?", "Which city was #2 born in?"], "Tamsel"),
        (ENGLISH, ["How many pages does Map have?"], 351),
        (ENGLISH, ["Which people star in Harbor?", "How many people are in #1?"], 3),
        (ENGLISH, ["Which people star in Harbor?"], ["Leon Marsh", "Hugo Pike", "Ivo Lund"]),
        (KOREAN, ["'항구'의 감독은 누구인가요?", "#1이 태어난 도시는 어디인가요?"], "탐셀"),
    ],
)
def test_steps_are_answered(interpreter: Interpreter, steps: list[str], answer: Any) -> None:
    assert agrees(interpreter.answer(steps), answer)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [""],
        ["Who directed Harbour?"],
        ["Who directed Lorin?"],
        ["Please tell me who directed Harbor?"],
        ["Who directed #1?"],
        ["Which city was #2 born in?", "Who directed Harbor?"],
        ["Who directed Harbor?", "How many people are in #1?"],
        ["Who directed Harbor?", "Which city was #0 born in?"],
        ["Which city was #" + "9" * 5000 + " born in?"],
        ["Who directed " + "Harbor " * 20_000 + "?"],
    ],
)
def test_what_is_not_in_the_language_of_the_world_has_no_answer(steps: list[str]) -> None:
    with pytest.raises(CannotAnswer):
        ENGLISH.answer(steps)


@pytest.mark.parametrize(("language", "interpreter"), [("en", ENGLISH), ("ko", KOREAN)])
def test_single_hop_questions_are_one_step_that_is_answered(language: str, interpreter: Interpreter) -> None:
    rows = list(generate(language, 300, 7, max_steps=1))
    assert len({row["question"] for row in rows}) == 300
    assert all(len(row["sub_questions"]) == 1 for row in rows)
    assert all(agrees(interpreter.answer(row["sub_questions"]), row["answer"]) for row in rows)
    assert rows[:50] == list(generate(language, 50, 7, max_steps=1))


def test_deeper_questions_are_answered() -> None:
    rows = list(generate("en", 100, 7, min_steps=4, max_steps=4))
    assert {len(row["sub_questions"]) for row in rows} == {4}
    assert all(agrees(ENGLISH.answer(row["sub_questions"]), row["answer"]) for row in rows)
    assert min(len(row["sub_questions"]) for row in generate("ko", 50, 7, min_steps=3)) == 3
    for fewest, most in ((0, None), (4, 3), (2, 1)):
        with pytest.raises(UserError, match="ask for"):
            generate("en", 5, 7, min_steps=fewest, max_steps=most)
