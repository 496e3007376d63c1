"""How far a mean, or the difference of two, could be off by the luck of which rows were drawn: the bootstrap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
_CELLS_AT_ONCE = 4_000_000  # resamples x rows; each takes 8 bytes

Interval = tuple[float, float]
Columns = Mapping[str, Sequence[float | None]]
"""Metric -> one value a row, None where a row has none; all of one length."""


def bootstrap(columns: Columns, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Interval]:
    """The 95 % percentile interval of the mean of every column (Efron 1979).

    Rows are drawn with replacement, the same ones for all columns; None counts neither in a mean nor in its
    number of rows. A column of nothing but None has no interval. The same seed gives the same intervals.
    """
    import numpy

    values, known = _matrix(columns)
    sums, counts = [], []
    for weights in _weights(len(values), resamples, seed):
        sums.append(weights @ values)
        counts.append(weights @ known)
    counted = numpy.concatenate(counts)
    with numpy.errstate(invalid="ignore"):  # a resample may have no row with a value: nan, and left out
        means = numpy.concatenate(sums) / counted
    tail = (1 - LEVEL) / 2
    found = {}
    for place, name in enumerate(columns):
        if known[:, place].any():
            low, high = numpy.nanquantile(means[:, place], [tail, 1 - tail])
            found[name] = (float(low), float(high))
    return found


def sign_flip_p_values(columns: Columns, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, float]:
    """Two-sided p-value of every column of paired differences, by randomisation (Noreen 1989, Yeh 2000).

    If two systems were equally good, either could have given either answer of a row: the sign of every difference
    is drawn at random, and p is the share of draws whose sum is at least as far from 0, the observed one counted
    in. None counts as no difference.
    """
    import numpy

    values, known = _matrix(columns)
    observed = numpy.abs(values.sum(axis=0))
    generator = numpy.random.default_rng(seed)
    as_far = numpy.zeros(values.shape[1])
    for count in _chunks(len(values), resamples):
        signs = generator.integers(0, 2, size=(count, len(values))) * 2.0 - 1.0
        as_far += (numpy.abs(signs @ values) >= observed - 1e-9).sum(axis=0)
    p_values = (as_far + 1) / (resamples + 1)
    return {name: float(p_values[place]) for place, name in enumerate(columns) if known[:, place].any()}


def _matrix(columns: Columns) -> tuple[Any, Any]:
    """(values with 0 for None, 1 where there is a value), both `[rows, columns]`."""
    import numpy

    table = numpy.array([[numpy.nan if value is None else value for value in column] for column in columns.values()])
    known = ~numpy.isnan(table.T)
    return numpy.where(known, table.T, 0.0), known.astype(float)


def _weights(rows: int, resamples: int, seed: int) -> Iterator[Any]:
    """How often each row is drawn, `[some resamples, rows]`, until there are as many as asked for."""
    import numpy

    generator = numpy.random.default_rng(seed)
    for count in _chunks(rows, resamples):
        drawn = generator.integers(0, rows, size=(count, rows)) + numpy.arange(count)[:, None] * rows
        yield numpy.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows).astype(float)


def _chunks(rows: int, resamples: int) -> Iterator[int]:
    size = max(1, _CELLS_AT_ONCE // rows)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
