"""BREAK's official metrics of rows of predictions.jsonl: graph edit distance and normalized exact match."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.console import say
from qdsft.metrics.break_official.break_scores import break_scores
from qdsft.metrics.break_official.english_model import load_english
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.metrics.scores import Scores, without_languages


def require_official() -> None:
    """Raise UserError unless `official_scores` can run. Call it before slow work."""
    load_english()


def official_scores(rows: Sequence[PredictionRow], *, lexical: bool) -> list[Scores]:
    """Return BREAK's metrics of each row of a decomposition.

    They are `structural_ged` and with `lexical` also `ged` and `normalized_exact_match`, which need spaCy. The latter
    is None if an answer has no normal form. Steps that do not come from BREAK's strings are scored as those strings
    would give them, with `return` before each step. Prints how many distances are only bounds. Raises UserError as
    `break_scores` does.
    """
    pairs = [(row.question, *as_parsed(list(row.gold), row.sub_questions or [])) for row in rows]
    scores = break_scores(pairs, lexical=lexical)
    inexact = sum(found.pop("ged_inexact") or 0 for found in scores)
    if inexact:
        say(f"{inexact:.0f} graph edit distances took too long: their values are the best found, upper bounds")
    return [without_languages(found, row.language) for row, found in zip(rows, scores, strict=True)]


def as_parsed(gold: Sequence[str], predicted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return both as BREAK's evaluator reads them: without `return` a step keeps its blank; no answer is an empty step.

    Gold steps that begin with a blank show that both were read from BREAK's strings already.
    """
    if any(step.startswith(" ") for step in gold):
        return list(gold), list(predicted) or [""]
    return [f" {step}" for step in gold], [f" {step}" for step in predicted] or [""]
