"""BREAK's official metrics of rows of predictions.jsonl: graph edit distance and normalized exact match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdsft.console import say
from qdsft.metrics.break_official.break_scores import break_scores
from qdsft.metrics.break_official.english_model import load_english

Scores = dict[str, float | None]
ENGLISH_ONLY = ("ged", "normalized_exact_match")
KOREAN = "ko"


def require_official() -> None:
    """Raise UserError unless `official_scores` can run. Call it before slow work."""
    load_english()


def official_scores(rows: Sequence[dict[str, Any]], *, lexical: bool) -> list[Scores]:
    """For each row the metrics that are to be added to its scores: `structural_ged`, and with `lexical` those that
    need spaCy, `ged` and `normalized_exact_match`, both None for Korean rows, the latter also where an answer has no
    normal form.

    Steps that do not come from BREAK's strings are taken as those strings would give them, with `return` before each
    step. Says how many distances are only bounds. Raises UserError as `break_scores` does.
    """
    pairs = [(row["question"], *as_parsed(row["gold"], row["sub_questions"])) for row in rows]
    scores = break_scores(pairs, lexical=lexical)
    inexact = sum(found.pop("ged_inexact") or 0 for found in scores)
    for row, found in zip(rows, scores, strict=True):
        if row["language"] == KOREAN:
            found |= {name: None for name in ENGLISH_ONLY if name in found}
    if inexact:
        say(f"{inexact:.0f} graph edit distances took too long: their values are the best found, upper bounds")
    return scores


def as_parsed(gold: Sequence[str], predicted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return both as BREAK's evaluator reads them: without `return` a step keeps its blank; no answer is an empty step.

    Gold steps that begin with a blank show that both were read from BREAK's strings already.
    """
    if any(step.startswith(" ") for step in gold):
        return list(gold), list(predicted) or [""]
    return [f" {step}" for step in gold], [f" {step}" for step in predicted] or [""]
