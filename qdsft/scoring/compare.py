"""Evaluations of the same questions set side by side: differences, how sure they are, and which rows changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from qdsft.data.readers import scan
from qdsft.data.record import RowError, show
from qdsft.errors import UserError
from qdsft.metrics.intervals import RESAMPLES, bootstrap, sign_flip_p_values
from qdsft.metrics.meanings import LARGEST, MEANINGS
from qdsft.metrics.summary import Row
from qdsft.runs.layout import PREDICTIONS_FILE

SIGNIFICANT = 0.05

Key = tuple[str, int]
"""A question, and how many times it came before in the same file."""


@dataclass(frozen=True)
class Evaluation:
    """The scored predictions of one system."""

    name: str
    """The path as it was given."""
    rows: dict[Key, Row]


def compare(paths: Sequence[Path], *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare every evaluation with the first.

    `paths`: run directories, folders that `qdsft evaluate --output` wrote, or files of the form of predictions.jsonl.
    Returns `{"first": name, "rows": n, "resamples": n, "comparisons": [{"name", "metrics": {metric: {"first",
    "second", "difference", "interval": [low, high], "p_value", "significant", "wins", "ties", "losses"}}, "gained":
    [{"row", "question"}], "lost": [...]}]}`. Means and differences (second minus first) are over the rows for which
    both have the metric; a win is a row on which the second is better. `significant`: p below 0.05, and 0 outside of
    the 95 % interval. `gained` and `lost` are rows whose exact match changed, numbered from 1 in the first's order.

    Raises UserError for a path without predictions, and naming what differs for other questions, gold answers or
    metrics.
    """
    first, *others = (read_evaluation(path) for path in paths)
    for other in others:
        _check_comparable(first, other)
    return {
        "first": first.name,
        "rows": len(first.rows),
        "resamples": resamples,
        "comparisons": [_compare(first, other, resamples) for other in others],
    }


def read_evaluation(path: Path) -> Evaluation:
    """The scored predictions of a folder or file; raises UserError if there are none that can be read."""
    file = path / PREDICTIONS_FILE if path.is_dir() else path
    if not file.exists():
        if path.is_dir():
            raise UserError(f"{path}: {PREDICTIONS_FILE} is missing; write it with qdsft evaluate")
        raise UserError(f"{path}: there is no such folder or file; give a run directory or another evaluation's folder")
    rows: dict[Key, Row] = {}
    seen: Counter[str] = Counter()
    names: set[str] | None = None
    for found in scan(file):
        if isinstance(found, RowError):
            raise found
        row, scores = found.row, found.row.get("scores")
        if not isinstance(row.get("question"), str) or not isinstance(scores, dict) or "gold" not in row:
            message = "no row of a predictions.jsonl with question, gold and scores; write it with qdsft evaluate"
            raise RowError(found.source, "not a scored prediction", message)
        for name, value in scores.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
            if not (value is None or is_number):
                raise RowError(found.source, "not a score", f"scores: {name} must be a number, not {show(value)}")
        if names is not None and scores.keys() != names:
            raise RowError(found.source, "other metrics", "other metrics than in the rows before; evaluate again")
        names = set(scores)
        rows[row["question"], seen[row["question"]]] = row
        seen[row["question"]] += 1
    if not rows:
        raise UserError(f"{file}: there are no rows; evaluate again")
    return Evaluation(str(path), rows)


def _check_comparable(first: Evaluation, other: Evaluation) -> None:
    for has, lacks in ((first, other), (other, first)):
        questions = [key for key in has.rows if key not in lacks.rows]
        if questions:
            raise UserError(
                f"{lacks.name} lacks {len(questions)} of the {len(has.rows)} questions of {has.name}, such as "
                f"{show(questions[0][0])}; evaluate both on the same rows"
            )
    for key, row in first.rows.items():
        if row["gold"] != other.rows[key]["gold"]:
            raise UserError(
                f"the gold answer to {show(key[0])} is not the same in {first.name} and {other.name}; evaluate both on "
                "the same rows"
            )
    for has, lacks in ((first, other), (other, first)):
        metrics = [name for name in _metrics(has) if name not in _metrics(lacks)]
        if metrics:
            raise UserError(
                f"{lacks.name} lacks the metrics {', '.join(metrics)} of {has.name}; evaluate both with the "
                "same version and options"
            )


def _metrics(evaluation: Evaluation) -> list[str]:
    scores = next(iter(evaluation.rows.values()))["scores"]
    return [*(name for name in MEANINGS if name in scores), *(name for name in scores if name not in MEANINGS)]


def _compare(first: Evaluation, other: Evaluation, resamples: int) -> dict[str, Any]:
    pairs = {
        metric: [(row["scores"][metric], other.rows[key]["scores"][metric]) for key, row in first.rows.items()]
        for metric in _metrics(first)
    }
    differences = {
        metric: [None if None in pair else pair[1] - pair[0] for pair in column] for metric, column in pairs.items()
    }
    intervals = bootstrap(differences, resamples=resamples)
    p_values = sign_flip_p_values(differences, resamples=resamples)
    metrics = {}
    for metric, interval in intervals.items():
        known = [pair for pair in pairs[metric] if None not in pair]
        metrics[metric] = {
            "first": fmean(pair[0] for pair in known),
            "second": fmean(pair[1] for pair in known),
            "difference": fmean(pair[1] - pair[0] for pair in known),
            "interval": list(interval),
            "p_value": p_values[metric],
            "significant": p_values[metric] < SIGNIFICANT and not interval[0] <= 0 <= interval[1],
            **_wins(metric, known),
        }
    return {"name": other.name, "metrics": metrics, **_changed(first, pairs.get("exact_match", []))}


def _wins(metric: str, pairs: Sequence[tuple[float, float]]) -> dict[str, int]:
    higher = sum(second > first for first, second in pairs)
    lower = sum(second < first for first, second in pairs)
    wins, losses = (lower, higher) if metric in MEANINGS and MEANINGS[metric].better == "lower" else (higher, lower)
    return {"wins": wins, "ties": len(pairs) - wins - losses, "losses": losses}


def _changed(first: Evaluation, pairs: Sequence[tuple[float, float]]) -> dict[str, list[dict[str, Any]]]:
    changed: dict[str, list[dict[str, Any]]] = {"gained": [], "lost": []}
    for number, (key, pair) in enumerate(zip(first.rows, pairs, strict=False), start=1):
        if pair[0] != pair[1]:
            changed["gained" if pair[1] > pair[0] else "lost"].append({"row": number, "question": key[0]})
    return changed
