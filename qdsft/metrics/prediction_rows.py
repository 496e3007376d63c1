"""Rows of predictions.jsonl: what was asked, what was answered, and what that scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdsft.data.prediction import Prediction, Steps
from qdsft.data.text import main_script
from qdsft.metrics.scores import score

LANGUAGES = {"Latin script": "en", "Hangul": "ko"}
"""Script of the question -> its language; it is `other` for all others."""


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """Return the scored row of a prediction."""
    row: dict[str, Any] = {"question": prediction.question}
    if isinstance(prediction, Steps):
        answer = prediction.answer
        row |= {"gold": list(prediction.gold), "sub_questions": list(answer.steps)}
        row |= {
            "problems": list(answer.problems()),
            "text": answer.render() if prediction.text is None else prediction.text,
        }
    else:
        row |= {"gold": prediction.gold, "text": prediction.answer}
    return {
        **row,
        "stopped": prediction.stopped,
        "language": language(prediction.question),
        "source": source(prediction.columns),
        "scores": score(prediction),
    }


def language(question: str) -> str:
    """en, ko or other, by the script that most of the question is in."""
    return LANGUAGES.get(main_script(question), "other")


def source(columns: Mapping[str, Any]) -> str | None:
    """A row's column `source` or `dataset`, or what precedes the first _ of BREAK's `question_id`; None without."""
    for name in ("source", "dataset"):
        if isinstance(columns.get(name), str) and columns[name].strip():
            return str(columns[name]).strip()
    before, underscore, _ = str(columns.get("question_id", "")).partition("_")
    return before if before and underscore else None
