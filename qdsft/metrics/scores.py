"""All scores of one prediction."""

from __future__ import annotations

from dataclasses import dataclass

from qdsft.data.decomposition import Decomposition
from qdsft.metrics.alignment import align, edge_f1, step_f1
from qdsft.metrics.gold_free import gold_free
from qdsft.metrics.text_overlap import chrf, exact_match, sari, step_count_accuracy


@dataclass(frozen=True)
class Prediction:
    """What a model wrote for one question, beside the gold steps."""

    question: str
    gold: tuple[str, ...]
    decomposition: Decomposition
    stopped: bool | None
    """Whether the model ended its answer itself, not cut off at the length limit; None where nobody knows."""


def score(prediction: Prediction) -> dict[str, float | None]:
    """All metrics of one prediction.

    `valid` is 1.0 if the text is a numbered list without faults (`Decomposition.problems`), `stopped`
    1.0 if the model ended it itself, None if that is not known. The other metrics take whatever steps
    could be read, valid or not: an invalid answer is neither left out nor set to 0.
    """
    decomposition, gold = prediction.decomposition, prediction.gold
    steps = decomposition.steps
    pairs = align(steps, gold)
    return {
        "exact_match": exact_match(steps, gold),
        "sari": sari(prediction.question, steps, gold),
        "step_f1": step_f1(steps, gold, pairs),
        "edge_f1": edge_f1(steps, gold, pairs),
        "chrf": chrf("\n".join(steps), "\n".join(gold)),
        "step_count_accuracy": step_count_accuracy(steps, gold),
        "valid": float(decomposition.is_valid),
        "stopped": None if prediction.stopped is None else float(prediction.stopped),
        **gold_free(prediction.question, decomposition),
    }


def text_score(expected: str, text: str, stopped: bool) -> dict[str, float | None]:
    """Metrics of tasks whose answer is free text.

    `exact_match` is 1.0 if the texts are equal once every run of white space is one space and outer
    white space is gone; upper and lower case differ. `chrf` and `stopped` are as in `score`.
    """
    return {
        "exact_match": float(expected.split() == text.split()),
        "chrf": chrf(text, expected),
        "stopped": float(stopped),
    }
