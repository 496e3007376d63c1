"""Proof of the gold steps: an interpreter of their text alone finds the answers of the questions' programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from qdsft.data.synth import generate
from qdsft.data.synth.interpreter import CannotAnswer, Interpreter, agrees

LANGUAGES = ("en", "ko")


def disagreements(interpreter: Interpreter, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Questions whose steps do not lead to their answers."""
    wrong = []
    for row in rows:
        try:
            found = interpreter.answer(row["sub_questions"])
        except CannotAnswer as error:
            found = error
        if not agrees(found, row["answer"]):
            wrong.append(f"{row['question']} {row['sub_questions']}: {found}, not {row['answer']}")
    return wrong


@pytest.mark.parametrize("language", LANGUAGES)
def test_steps_lead_to_the_answer(language: str) -> None:
    assert disagreements(Interpreter(language), list(generate(language, 500, seed=1))) == []


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_steps_lead_to_the_answer_in_ten_thousand_rows(language: str) -> None:
    assert disagreements(Interpreter(language), list(generate(language, 10_000, seed=2))) == []


def test_answers_do_not_agree_by_accident() -> None:
    assert not agrees(True, 1)
    assert not agrees(("a",), ["b"])
    assert not agrees((), [None])
    assert not agrees("a", ["a"])


def _wrong_reference(steps: list[str]) -> list[str] | None:
    """The last reference of the last step turned to another earlier step."""
    last = re.search(r"#(\d+)(?!.*#\d)", steps[-1])
    if last is None or len(steps) < 3:
        return None
    other = int(last[1]) - 1 or int(last[1]) + 1
    if other >= len(steps):
        return None
    return [*steps[:-1], f"{steps[-1][: last.start()]}#{other}{steps[-1][last.end() :]}"]


def _swapped_steps(steps: list[str]) -> list[str] | None:
    """The last two steps in the wrong order."""
    return [*steps[:-2], steps[-1], steps[-2]] if len(steps) > 1 else None


def _dropped_step(steps: list[str]) -> list[str] | None:
    """The last step missing."""
    return steps[:-1] if len(steps) > 1 else None


def _replaced(pairs: dict[str, str]) -> Callable[[list[str]], list[str] | None]:
    def plant(steps: list[str]) -> list[str] | None:
        for number, step in enumerate(steps):
            for right, wrong in pairs.items():
                if right in step:
                    return [*steps[:number], step.replace(right, wrong), *steps[number + 1 :]]
        return None

    return plant


_wrong_relation = _replaced(
    {
        "Who directed": "Who wrote",
        "was released later": "was released earlier",
        "star ": "were directed by ",
        "Which city is": "Which country is",
        "의 감독은": "의 저자는",
        "출연한 영화": "감독한 영화",
        "의 창업자": "의 감독",
        "늦게": "일찍",
    }
)
_wrong_direction = _replaced(
    {"highest": "lowest", "lowest": "highest", "greater": "less", "가장 많은": "가장 적은", "큰가요": "작은가요"}
)
_wrong_set = _replaced({"in both #": "in either #", "모두 있는": "모두 없는", "양쪽에": "어느 쪽에"})


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "plant", [_wrong_reference, _swapped_steps, _dropped_step, _wrong_relation, _wrong_direction, _wrong_set]
)
def test_planted_faults_are_seen(language: str, plant: Callable[[list[str]], list[str] | None]) -> None:
    rows = [
        {**row, "sub_questions": faulty}
        for row in generate(language, 400, seed=3)
        if (faulty := plant(row["sub_questions"])) is not None
    ]
    assert len(rows) > 10
    # Some faults leave the answer as it is by chance: a film can be both the oldest and the shortest.
    assert len(disagreements(Interpreter(language), rows)) > 0.8 * len(rows)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_name_is_seen(language: str) -> None:
    rows = list(generate(language, 300, seed=4))
    names = sorted({row["answer"] for row in rows if isinstance(row["answer"], str)})
    planted = []
    for row in rows:
        for name in names:
            first = row["sub_questions"][0]
            if name in first:
                planted.append({**row, "sub_questions": [first.replace(name, name + "x"), *row["sub_questions"][1:]]})
                break
    assert len(planted) > 50
    assert len(disagreements(Interpreter(language), planted)) == len(planted)
