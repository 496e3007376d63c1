"""Aggregate the scores of rows into the metrics of a model: means, intervals, and means for groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from qdsft.errors import UserError
from qdsft.metrics.catalog import BY_KEY
from qdsft.metrics.intervals import bootstrap
from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics, PairedDifference
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.metrics.scores import Scores


def summarise(rows: Sequence[PredictionRow]) -> ModelMetrics:
    """Return the metrics of a model without those of decoding.

    Every mean and interval is over the rows that have the metric; a metric that no row has is left out. Rows without
    a source are in no group of sources, and rows of free text in no group of steps.

    Raises UserError if there are no rows: a mean of nothing would look like a result.
    """
    if not rows:
        raise UserError("there are no predictions to score; give evaluation data with at least one row")
    intervals = bootstrap({name: [row.scores[name] for row in rows] for name in rows[0].scores})
    groups = {kind: _groups(rows, key) for kind, key in _KEYS.items()}
    return ModelMetrics(len(rows), means([row.scores for row in rows]), intervals, _differences(rows), groups)


def means(scores: Sequence[Scores]) -> dict[str, float]:
    """Return the mean of each metric over the rows that have it; a metric that no row has is left out."""
    columns = {name: [value for row in scores if (value := row[name]) is not None] for name in scores[0]}
    return {name: fmean(values) for name, values in columns.items() if values}


def _differences(rows: Sequence[PredictionRow]) -> dict[str, PairedDifference]:
    """Return the mean difference of each metric that is compared to another one, over the rows that have both."""
    columns = {}
    for name in rows[0].scores:
        other = BY_KEY[name].compared_to if name in BY_KEY else None
        if other in rows[0].scores:
            pairs = [(row.scores[name], row.scores[other]) for row in rows]
            columns[name] = [None if one is None or two is None else one - two for one, two in pairs]
    intervals = bootstrap(columns)
    return {
        name: PairedDifference(fmean(value for value in columns[name] if value is not None), interval)
        for name, interval in intervals.items()
    }


_KEYS: dict[str, Callable[[PredictionRow], str | int | None]] = {
    "language": lambda row: row.language,
    "steps": lambda row: len(row.gold) if isinstance(row.gold, list) else None,
    "source": lambda row: row.source,
}


def _groups(rows: Sequence[PredictionRow], key: Callable[[PredictionRow], str | int | None]) -> dict[str, GroupMetrics]:
    members: dict[str | int, list[PredictionRow]] = {}
    for row in rows:
        if (name := key(row)) is not None:
            members.setdefault(name, []).append(row)
    # One kind of group has either text or numbers as names.
    return {str(name): _group(members[name]) for name in sorted(members, key=lambda name: (str(type(name)), name))}


def _group(rows: Sequence[PredictionRow]) -> GroupMetrics:
    return GroupMetrics(len(rows), means([row.scores for row in rows]))
