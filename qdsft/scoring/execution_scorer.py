"""Score decompositions of synthetic questions by executing them over the fictional world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from qdsft.data.prediction import PredictedSteps
from qdsft.data.synth import LANGUAGES
from qdsft.data.synth.interpreter import CannotAnswer, Interpreter, agrees
from qdsft.errors import UserError
from qdsft.metrics.scores import Scores

EXECUTION = "execution_accuracy"


class ExecutionScorer:
    """Execute predicted steps one after another, and compare the last answer with the answer of the question."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise UserError if none of `rows`, the columns of the rows to score, is of the synthetic world."""
        if not any(_is_of_the_world(row, row.get("sub_questions")) for row in rows):
            raise UserError(
                "--execute: no row is of the synthetic world; make rows with qdsft data synth, which have language and "
                "answer, or leave it out"
            )

    def __call__(self, row: PredictedSteps) -> Scores:
        """Return 1.0 if the predicted steps lead to the question's answer, else 0.0; None for a row of another world.

        Steps that cannot be answered lead nowhere. Steps are executed in their order, so a forward reference fails.
        """
        if not _is_of_the_world(row.columns, row.gold):
            return {EXECUTION: None}
        return {EXECUTION: float(_leads_to(row.columns, row.answer.steps))}


def _is_of_the_world(row: Mapping[str, Any], gold: Any) -> bool:
    steps = list(gold) if isinstance(gold, list | tuple) else []
    return "answer" in row and row.get("language") in LANGUAGES and _leads_to(row, steps)


def _leads_to(row: Mapping[str, Any], steps: Sequence[Any]) -> bool:
    try:
        return agrees(_interpreter(row["language"]).answer([str(step) for step in steps]), row["answer"])
    except CannotAnswer:
        return False


@cache
def _interpreter(language: str) -> Interpreter:
    return Interpreter(language)
