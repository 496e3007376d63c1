"""Compare evaluations of the same questions: differences, how certain they are, and which rows changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from qdsft.data.record import short_json
from qdsft.errors import UserError
from qdsft.metrics.catalog import BY_KEY
from qdsft.metrics.intervals import RESAMPLES, Interval, bootstrap, sign_flip_p_values
from qdsft.metrics.prediction_rows import PredictionRow, read_prediction_rows
from qdsft.runs.layout import PREDICTIONS_FILE

SIGNIFICANT = 0.05

Key = tuple[str, int]
"""A question, and how many times it occurred before in the same file."""


@dataclass(frozen=True)
class ScoredPredictions:
    """The scored predictions of one system."""

    name: str
    """The path as it was given."""
    rows: dict[Key, PredictionRow]


@dataclass(frozen=True)
class Difference:
    """One metric of two evaluations, over the rows for which both have it."""

    first: float
    second: float
    difference: float
    """Second minus first."""
    interval: Interval
    """95 % interval of the difference."""
    p_value: float
    significant: bool
    """p is below 0.05, and 0 is outside the interval."""
    wins: int
    """Rows on which the second is better."""
    ties: int
    losses: int


@dataclass(frozen=True)
class ChangedRow:
    """A row whose exact match changed."""

    row: int
    """Its number from 1 in the first evaluation."""
    question: str


@dataclass(frozen=True)
class Comparison:
    """An evaluation compared with the first one."""

    name: str
    metrics: dict[str, Difference]
    gained: list[ChangedRow]
    lost: list[ChangedRow]


@dataclass(frozen=True)
class Comparisons:
    """All evaluations compared with the first one."""

    first: str
    rows: int
    resamples: int
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        """Return everything under the names of the fields."""
        return asdict(self)


def compare(paths: Sequence[Path], *, resamples: int = RESAMPLES) -> Comparisons:
    """Compare every evaluation with the first.

    `paths` are run directories, folders that `qdsft evaluate --output` wrote, or files like predictions.jsonl.

    Raises UserError for a path without predictions, and for evaluations that differ in questions, gold answers or
    metrics, naming the difference.
    """
    first, *others = (read_scored_predictions(path) for path in paths)
    for other in others:
        _check_comparable(first, other)
    return Comparisons(first.name, len(first.rows), resamples, [_compare(first, other, resamples) for other in others])


def read_scored_predictions(path: Path) -> ScoredPredictions:
    """Return the scored predictions of a folder or file; raises UserError if there are none that can be read."""
    file = path / PREDICTIONS_FILE if path.is_dir() else path
    if not file.exists():
        if path.is_dir():
            raise UserError(f"{path}: {PREDICTIONS_FILE} is missing; write it with qdsft evaluate")
        raise UserError(f"{path}: there is no such folder or file; give a run directory or another evaluation's folder")
    rows: dict[Key, PredictionRow] = {}
    seen: Counter[str] = Counter()
    for number, row in enumerate(read_prediction_rows(file), start=1):
        if rows and row.scores.keys() != next(iter(rows.values())).scores.keys():
            raise UserError(f"{file}: row {number} has other metrics than the rows before; evaluate again")
        rows[row.question, seen[row.question]] = row
        seen[row.question] += 1
    if not rows:
        raise UserError(f"{file}: there are no rows; evaluate again")
    if not any(value is not None for row in rows.values() for value in row.scores.values()):
        raise UserError(f"{file}: the rows have no scores; evaluate again")
    return ScoredPredictions(str(path), rows)


def _check_comparable(first: ScoredPredictions, other: ScoredPredictions) -> None:
    for has, lacks in ((first, other), (other, first)):
        questions = [key for key in has.rows if key not in lacks.rows]
        if questions:
            raise UserError(
                f"{lacks.name} lacks {len(questions)} of the {len(has.rows)} questions of {has.name}, such as "
                f"{short_json(questions[0][0])}; evaluate both on the same rows"
            )
    for key, row in first.rows.items():
        if row.gold != other.rows[key].gold:
            raise UserError(
                f"the gold answer to {short_json(key[0])} is not the same in {first.name} and {other.name}; "
                "evaluate both on the same rows"
            )
    theirs = _metrics(other)
    for name in _metrics(first):
        if not _is_fixed(name) or name not in theirs:
            continue
        if any(row.scores[name] != other.rows[key].scores[name] for key, row in first.rows.items()):
            raise UserError(
                f"{first.name} and {other.name} were evaluated with another corpus or other options "
                f"({BY_KEY[name].name} differs); evaluate both with the same --retrieval and --answers"
            )
    for has, lacks in ((first, other), (other, first)):
        metrics = [name for name in _metrics(has) if name not in _metrics(lacks)]
        if metrics:
            raise UserError(
                f"{lacks.name} lacks the metrics {', '.join(metrics)} of {has.name}; evaluate both with the "
                "same version and options"
            )


def _metrics(evaluation: ScoredPredictions) -> list[str]:
    """Return the metrics in reading order; unknown ones come last."""
    scores = next(iter(evaluation.rows.values())).scores
    return [*(name for name in BY_KEY if name in scores), *(name for name in scores if name not in BY_KEY)]


def _is_fixed(metric: str) -> bool:
    """Return whether a metric does not depend on the prediction."""
    return metric in BY_KEY and BY_KEY[metric].fixed


def _compare(first: ScoredPredictions, other: ScoredPredictions, resamples: int) -> Comparison:
    pairs = {
        metric: [(row.scores[metric], other.rows[key].scores[metric]) for key, row in first.rows.items()]
        for metric in _metrics(first)
        if not _is_fixed(metric)
    }
    differences = {
        metric: [None if one is None or two is None else two - one for one, two in column]
        for metric, column in pairs.items()
    }
    intervals = bootstrap(differences, resamples=resamples)
    p_values = sign_flip_p_values(differences, resamples=resamples)
    metrics = {}
    for metric, interval in intervals.items():
        known = [(one, two) for one, two in pairs[metric] if one is not None and two is not None]
        lower_is_better = metric in BY_KEY and BY_KEY[metric].better == "lower"
        better = [(one - two if lower_is_better else two - one) for one, two in known]
        wins, losses = sum(gain > 0 for gain in better), sum(gain < 0 for gain in better)
        metrics[metric] = Difference(
            first=fmean(one for one, _ in known),
            second=fmean(two for _, two in known),
            difference=fmean(two - one for one, two in known),
            interval=interval,
            p_value=p_values[metric],
            significant=p_values[metric] < SIGNIFICANT and not interval[0] <= 0 <= interval[1],
            wins=wins,
            ties=len(known) - wins - losses,
            losses=losses,
        )
    changes = zip(first.rows, differences.get("exact_match", []), strict=False)
    numbered = [(ChangedRow(number, key[0]), change or 0) for number, (key, change) in enumerate(changes, start=1)]
    gained = [row for row, change in numbered if change > 0]
    lost = [row for row, change in numbered if change < 0]
    return Comparison(other.name, metrics, gained, lost)
