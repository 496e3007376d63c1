"""A model's answer to one question, next to the gold answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qdsft.data.decomposition import Decomposition


@dataclass(frozen=True)
class PredictedSteps:
    """A predicted decomposition."""

    question: str
    gold: tuple[str, ...]
    answer: Decomposition
    stopped: bool | None
    """Whether the model ended its answer itself, before the length limit; None if unknown."""
    text: str | None = None
    """The answer as the model wrote it; None for steps that were given as a list."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """All columns of the row of data."""
    reader_answers: tuple[str, ...] | None = None
    """The answers of a reader to the predicted steps, one for each."""

    @classmethod
    def parse(
        cls,
        question: str,
        gold: Sequence[str],
        text: str,
        stopped: bool | None,
        columns: Mapping[str, Any] | None = None,
    ) -> PredictedSteps:
        """Return the prediction that a model wrote as text."""
        return cls(question, tuple(gold), Decomposition.parse(text), stopped, text, columns or {})


@dataclass(frozen=True)
class PredictedText:
    """A predicted text of a task other than decomposition."""

    question: str
    """The user message."""
    gold: str
    answer: str
    stopped: bool | None
    columns: Mapping[str, Any] = field(default_factory=dict)


Prediction = PredictedSteps | PredictedText
