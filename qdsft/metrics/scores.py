"""All scores of one prediction."""

from __future__ import annotations

from qdsft.data.prediction import FreeText, Prediction, Steps
from qdsft.metrics.alignment import align, edge_f1, step_f1
from qdsft.metrics.gold_free import gold_free
from qdsft.metrics.text_overlap import chrf, exact_match, sari, step_count_accuracy

Scores = dict[str, float | None]
"""Metric -> value; None for a metric that a row does not have."""


def score(prediction: Prediction) -> Scores:
    """All metrics of one prediction.

    `valid` is 1.0 if the text is a numbered list without faults (`Decomposition.problems`), `stopped`
    1.0 if the model ended it itself, None if that is not known. The other metrics take whatever steps
    could be read, valid or not: an invalid answer is neither left out nor set to 0.
    """
    return _text_scores(prediction) if isinstance(prediction, FreeText) else _step_scores(prediction)


def _step_scores(prediction: Steps) -> Scores:
    steps, gold = prediction.answer.steps, prediction.gold
    pairs = align(steps, gold)
    return {
        "exact_match": exact_match(steps, gold),
        "sari": sari(prediction.question, steps, gold),
        "step_f1": step_f1(steps, gold, pairs),
        "edge_f1": edge_f1(steps, gold, pairs),
        "chrf": chrf("\n".join(steps), "\n".join(gold)),
        "step_count_accuracy": step_count_accuracy(steps, gold),
        "valid": float(prediction.answer.is_valid),
        "stopped": None if prediction.stopped is None else float(prediction.stopped),
        **gold_free(prediction.question, prediction.answer),
    }


def _text_scores(prediction: FreeText) -> Scores:
    """Metrics of tasks whose answer is free text.

    `exact_match` is 1.0 if the texts are equal once every run of white space is one space and outer
    white space is gone; upper and lower case differ. `chrf` and `stopped` are as in `score`.
    """
    return {
        "exact_match": float(prediction.gold.split() == prediction.answer.split()),
        "chrf": chrf(prediction.answer, prediction.gold),
        "stopped": None if prediction.stopped is None else float(prediction.stopped),
    }
