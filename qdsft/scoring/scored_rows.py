"""Score predictions row by row: with the metrics that need nothing else, and with those that an option adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.data.prediction import PredictedSteps, Prediction
from qdsft.metrics.prediction_rows import PredictionRow, prediction_row
from qdsft.scoring.execution_scorer import ExecutionScorer
from qdsft.scoring.retrieval import RetrievalScorer


@dataclass(frozen=True)
class RowScorer:
    """Scores rows, with the metrics that were asked for."""

    retrieval: RetrievalScorer | None = None
    execution: ExecutionScorer | None = None

    def __call__(self, prediction: Prediction) -> PredictionRow:
        """Return the scored row of a prediction."""
        row = prediction_row(prediction)
        for scorer in (self.retrieval, self.execution):
            if scorer and isinstance(prediction, PredictedSteps):
                row.scores.update(scorer(prediction))
        return row

    def facts(self) -> dict[str, Any]:
        """Return what the added metrics depend on, for metrics.json."""
        return {"retrieval": self.retrieval.facts} if self.retrieval else {}


def make_scorer(
    rows: Sequence[Mapping[str, Any]],
    *,
    retrieval: str | Path | None = None,
    answers: bool = False,
    execute: bool = False,
) -> RowScorer:
    """Return the scorer for rows with these columns; `retrieval` is a corpus.

    Raises UserError as RetrievalScorer and ExecutionScorer.
    """
    return RowScorer(
        RetrievalScorer(Path(retrieval), rows, answers=answers) if retrieval else None,
        ExecutionScorer(rows) if execute else None,
    )
