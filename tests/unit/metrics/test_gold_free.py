"""Each fault that needs no gold answer is seen by its own check, alone, on every row of a synthetic corpus."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps as Prediction
from qdsft.data.synth import generate_mixed
from qdsft.metrics.catalog import of_kind
from qdsft.metrics.scores import score

ROWS = [(row["question"], tuple(row["sub_questions"])) for row in generate_mixed(["en", "ko"], 200, 1)]
Steps = tuple[str, ...]

PLANTED: dict[str, Callable[[str, Steps], Steps]] = {
    "dangling_reference": lambda question, steps: (*steps[:-1], f"{steps[-1]} #{len(steps) + 3}"),
    "forward_reference": lambda question, steps: (f"{steps[0]} #2", *steps[1:], "?!"),
    "self_reference": lambda question, steps: (*steps[:-1], f"{steps[-1]} #{len(steps)}"),
    "empty_step": lambda question, steps: (*steps, " "),
    "repeated_step": lambda question, steps: (*steps, f" {steps[0].upper()}"),
    "copied_question": lambda question, steps: (*steps, question.replace(" ", "  ")),
}


def found(question: str, steps: Steps) -> set[str]:
    scores = score(Prediction(question, steps, Decomposition(steps), True))
    return {name for name in PLANTED if scores[name]}


def test_gold_answers_have_no_faults() -> None:
    assert [steps for question, steps in ROWS if found(question, steps)] == []


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen_by_the_check_meant_for_it_and_no_other(fault: str) -> None:
    for question, steps in ROWS:
        assert found(question, PLANTED[fault](question, steps)) == {fault}, (question, steps)


def test_every_fault_of_the_catalog_is_planted() -> None:
    assert {metric.key for metric in of_kind("fault")} == PLANTED.keys()


def test_empty_steps_do_not_repeat_one_another() -> None:
    assert found("q", ("", "  ")) == {"empty_step"}
