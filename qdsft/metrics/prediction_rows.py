"""Rows of predictions.jsonl: what was asked, what was answered, and what that scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.text import main_script
from qdsft.metrics.scores import Prediction, score, text_score

LANGUAGES = {"Latin script": "en", "Hangul": "ko"}
"""Script of the question -> its language; it is `other` for all others."""


def decomposition_row(
    question: str,
    gold: Sequence[str],
    answer: str | Decomposition,
    stopped: bool | None,
    columns: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One row; `answer` is a model's text or steps that came as a list, `columns` all of the data's row."""
    decomposition = Decomposition.parse(answer) if isinstance(answer, str) else answer
    return {
        "question": question,
        "gold": list(gold),
        "sub_questions": list(decomposition.steps),
        "problems": list(decomposition.problems()),
        "text": answer if isinstance(answer, str) else answer.render(),
        "stopped": stopped,
        "language": language(question),
        "source": source(columns or {}),
        "scores": score(Prediction(question, tuple(gold), decomposition, stopped)),
    }


def text_row(
    question: str, gold: str, text: str, stopped: bool, columns: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One row of a task whose answer is free text."""
    return {
        "question": question,
        "gold": gold,
        "text": text,
        "stopped": stopped,
        "language": language(question),
        "source": source(columns or {}),
        "scores": text_score(gold, text, stopped),
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
