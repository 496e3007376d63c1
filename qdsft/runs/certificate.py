"""The certificate of a merged model (merge.json): how far it agrees with the adapter as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from qdsft.errors import UserError
from qdsft.files import write_json
from qdsft.runs.layout import MERGE_FILE


class LogitAgreement(BaseModel):
    """Difference of the logits at the positions of the answers."""

    positions: int
    largest_difference: float
    mean_kl: float
    """Mean KL divergence from the adapter, nats per token."""
    same_greedy_token: float
    """Share of the positions."""


class AnswerAgreement(BaseModel):
    """Greedy answers."""

    compared: int
    identical: float
    """Share of the compared answers."""


class ScoreChange(BaseModel):
    """Mean of one metric."""

    trained: float
    merged: float
    difference: float


class Agreement(BaseModel):
    """A merged model compared with the adapter as it was trained."""

    logits: LogitAgreement
    answers: AnswerAgreement
    scores: dict[str, ScoreChange]
    """By metric; empty without gold answers."""


class Thresholds(BaseModel):
    """The agreement that a merged model must reach."""

    mean_kl: float
    identical_answers: float
    score_drop: float


class ExampleAnswer(BaseModel):
    """A held-out question and its answer."""

    question: str
    sub_questions: list[str]


class Certificate(BaseModel):
    """The content of merge.json."""

    qdsft_merge: Literal[1] = 1
    passed: bool | None
    """None if the agreement was not measured."""
    failed: list[str]
    """The thresholds that were not reached, in words."""
    base: str
    """The base model merged into: original or dequantized."""
    dtype: str
    method: str
    base_model: dict[str, Any]
    thresholds: Thresholds
    candidates: dict[str, Agreement]
    """By base; empty if the agreement was not measured."""
    results_of_adapter: dict[str, dict[str, Any]]
    example: ExampleAnswer | None
    questions: Literal["held-out rows", "golden prompts"]
    run: str
    """SHA-256 of the run's manifest."""
    versions: dict[str, str]
    files: dict[str, str] = {}
    """File name -> SHA-256."""


def write_certificate(folder: Path, certificate: Certificate) -> None:
    """Write merge.json."""
    write_json(folder / MERGE_FILE, certificate.model_dump())


def read_certificate(folder: Path) -> Certificate | None:
    """Return the certificate in `folder`, None if there is none; raises UserError if it is damaged."""
    path = folder / MERGE_FILE
    try:
        return Certificate.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; merge again") from error
    except ValueError as error:  # also pydantic's ValidationError and text that is not UTF-8
        raise UserError(f"{path}: damaged; merge again") from error
