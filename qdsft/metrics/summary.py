"""From scores of rows to scores of a model: means, intervals, and the same for groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from qdsft.errors import UserError
from qdsft.metrics.intervals import bootstrap
from qdsft.metrics.scores import Scores

Row = dict[str, Any]
"""One row of predictions.jsonl."""


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """What metrics.json says about one model.

    `{metric: mean, ..., "samples": rows, "intervals": {metric: [low, high]}, "groups": {"language": {"en":
    {"samples": n, metric: mean, ...}, ...}, "steps": {"2": ...}, "source": {...}}}`. Every mean and interval is
    over the rows that have the metric (not None); a metric that no row has is left out. Rows without a source, and
    rows of free text in `steps`, are in no group.

    Raises UserError if there are no rows: a mean of nothing would look like a result.
    """
    if not rows:
        raise UserError("there are no predictions to score; give evaluation data with at least one row")
    columns = {name: [row["scores"][name] for row in rows] for name in rows[0]["scores"]}
    intervals = {name: list(interval) for name, interval in bootstrap(columns).items()}
    groups = {name: _groups(rows, key) for name, key in _KEYS.items()}
    return {**_means(rows), "intervals": intervals, "groups": groups}


def _steps(row: Row) -> int | None:
    return len(row["gold"]) if isinstance(row["gold"], list) else None


_KEYS: dict[str, Callable[[Row], Any]] = {
    "language": lambda row: row["language"],
    "steps": _steps,
    "source": lambda row: row["source"],
}


def _groups(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[str, dict[str, Any]]:
    members: dict[Any, list[Row]] = {}
    for row in rows:
        members.setdefault(key(row), []).append(row)
    return {str(name): _means(members[name]) for name in sorted(members.keys() - {None})}


def _means(rows: Sequence[Row]) -> dict[str, Any]:
    return {**means([row["scores"] for row in rows]), "samples": len(rows)}


def means(scores: Sequence[Scores]) -> dict[str, float]:
    """Return the mean of each metric over the rows that have it; a metric that no row has is left out."""
    columns = {name: [value for row in scores if (value := row[name]) is not None] for name in scores[0]}
    return {name: fmean(values) for name, values in columns.items() if values}
