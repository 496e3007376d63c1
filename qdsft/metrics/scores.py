"""Compute all scores of one prediction."""

from __future__ import annotations

from qdsft.data.prediction import PredictedText, Prediction
from qdsft.data.text import language
from qdsft.metrics.catalog import METRICS

Scores = dict[str, float | None]
"""Metric -> value; None for a metric that a row does not have."""


def score(prediction: Prediction) -> Scores:
    """Return the metrics that are computed row by row.

    An invalid decomposition is scored by the steps that could be read; it is neither left out nor set to 0.
    """
    if isinstance(prediction, PredictedText):
        found = {metric.key: metric.score_text(prediction) for metric in METRICS if metric.score_text}
    else:
        found = {metric.key: metric.score_steps(prediction) for metric in METRICS if metric.score_steps}
    return without_languages(found, language(prediction.question))


def without_languages(scores: Scores, spoken: str) -> Scores:
    """Return the scores with None for the metrics that do not apply to a language."""
    hidden = {metric.key for metric in METRICS if spoken in metric.not_for}
    return {key: None if key in hidden else value for key, value in scores.items()}
