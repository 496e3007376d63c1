"""Rows of predictions.jsonl: a question, its gold and predicted answer, and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from qdsft.data.prediction import PredictedSteps, Prediction
from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError, short_json
from qdsft.data.text import language
from qdsft.metrics.numbers import LARGEST, is_number
from qdsft.metrics.scores import score
from qdsft.strict_json import to_json


class PredictionRow(BaseModel):
    """One line of predictions.jsonl."""

    model_config = ConfigDict(strict=True, frozen=True)

    question: str
    gold: list[str] | str
    """Steps of a decomposition, or free text."""
    sub_questions: list[str] | None = None
    """The predicted steps; None for free text."""
    problems: list[str] | None = None
    """Why the steps are not a valid decomposition; None for free text."""
    text: str = ""
    """The answer as the model wrote it."""
    stopped: bool | None = None
    language: str = "other"
    source: str | None = None
    scores: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return the line; free text has no `sub_questions` and `problems`."""
        return self.model_dump(exclude={"sub_questions", "problems"} if self.sub_questions is None else None)


def prediction_row(prediction: Prediction) -> PredictionRow:
    """Return the scored row of a prediction."""
    found = score(prediction)
    spoken, origin = language(prediction.question), source(prediction.columns)
    if not isinstance(prediction, PredictedSteps):
        return PredictionRow(
            question=prediction.question,
            gold=prediction.gold,
            text=prediction.answer,
            stopped=prediction.stopped,
            language=spoken,
            source=origin,
            scores=found,
        )
    answer = prediction.answer
    return PredictionRow(
        question=prediction.question,
        gold=list(prediction.gold),
        sub_questions=list(answer.steps),
        problems=list(answer.problems()),
        text=answer.render() if prediction.text is None else prediction.text,
        stopped=prediction.stopped,
        language=spoken,
        source=origin,
        scores=found,
    )


def source(columns: Mapping[str, Any]) -> str | None:
    """Return where a row of data comes from: its column `source` or `dataset`, or the prefix of BREAK's `question_id`.

    The prefix is what precedes the first `_`. Returns None if the row has none of them.
    """
    for name in ("source", "dataset"):
        if isinstance(columns.get(name), str) and columns[name].strip():
            return str(columns[name]).strip()
    before, underscore, _ = str(columns.get("question_id", "")).partition("_")
    return before if before and underscore else None


def json_lines(rows: Sequence[PredictionRow]) -> str:
    """Return the rows as the text of a predictions.jsonl."""
    return "".join(to_json(row.to_json()) + "\n" for row in rows)


def read_prediction_rows(path: Path) -> Iterator[PredictionRow]:
    """Yield the rows of a predictions.jsonl; raises UserError naming file and line for a row that is damaged."""
    for found in scan(path):
        if isinstance(found, RowError):
            raise found
        yield _parse(found)


def _parse(record: Record) -> PredictionRow:
    row, scores = record.row, record.row.get("scores")
    if not isinstance(row.get("question"), str) or not isinstance(scores, dict) or "gold" not in row:
        message = "no row of a predictions.jsonl with question, gold and scores; write it with qdsft evaluate"
        raise RowError(record.source, "not a scored prediction", message)
    for name, value in scores.items():
        if value is not None and not (is_number(value) and abs(value) < LARGEST):
            raise RowError(record.source, "not a score", f"scores: {name} must be a number, not {short_json(value)}")
    try:
        return PredictionRow.model_validate(row)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        message = f"{name} cannot be {short_json(row[name])}; write the file with qdsft evaluate"
        raise RowError(record.source, "damaged prediction", message) from error
