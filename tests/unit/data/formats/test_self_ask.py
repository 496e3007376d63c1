"""Self-ask prompts, with and without known answers."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.format_files import QUESTION, RELATIONS, STEPS

from qdsft.data.decomposition import REFERENCE
from qdsft.data.formats.write import render_as


def test_self_ask_with_answers_that_are_not_known() -> None:
    assert render_as("self-ask", QUESTION, STEPS, {"answer": False}) == (
        "Question: Did Ada outlive Bob?\nAre follow up questions needed here: Yes.\n"
        "Follow up: When did Ada die?\nIntermediate answer: #1\n"
        "Follow up: When did Bob die?\nIntermediate answer: #2\n"
        "Follow up: Is #1 after #2?\nIntermediate answer: #3\n"
        "So the final answer is: No"
    )
    assert render_as("self-ask", QUESTION, STEPS).endswith("\nSo the final answer is: #3")
    alone = render_as("self-ask", QUESTION, STEPS, self_contained=True)
    assert "Intermediate answer: [answer 1]\n" in alone
    assert "Follow up: Is the answer to “When did Ada die?” after the answer to “When did Bob die?”?\n" in alone
    assert alone.endswith("\nIntermediate answer: [answer 3]\nSo the final answer is: [answer 3]")
    assert not REFERENCE.search(alone)


def test_self_ask_with_answers() -> None:
    columns = {"step_answers": ["Turkey", "Ankara\n(city)"]}
    assert render_as("self-ask", "Capital\nof?", RELATIONS, columns) == (
        "Question: Capital of?\nAre follow up questions needed here: Yes.\n"
        "Follow up: Mount Ida >> country\nIntermediate answer: Turkey\n"
        "Follow up: #1 >> capital\nIntermediate answer: Ankara (city)\n"
        "So the final answer is: Ankara (city)"
    )
    # What the text showed before is what the reference stands for.
    assert "Follow up: Turkey >> capital\n" in render_as("self-ask", "q", RELATIONS, columns, self_contained=True)


@pytest.mark.parametrize("given", [["Turkey"], "Turkey", [None, None], [[], {}], ["", " "]])
def test_self_ask_takes_no_answers_of_another_shape(given: Any) -> None:
    assert "Intermediate answer: #1\n" in render_as("self-ask", "q", RELATIONS, {"step_answers": given, "answer": []})


@pytest.mark.parametrize(
    ("question", "answer", "said"), [("참?", True, "예"), ("참?", False, "아니요"), ("?", True, "Yes"), ("?", 7, "7")]
)
def test_self_ask_speaks_the_answer(question: str, answer: Any, said: str) -> None:
    text = render_as("self-ask", question, RELATIONS, {"answer": answer})
    assert text.endswith(f"\nSo the final answer is: {said}")
