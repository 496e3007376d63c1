"""Confidence intervals of means (bootstrap) and p-values of paired differences (sign flips)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
_CELLS_AT_ONCE = 4_000_000  # resamples x rows; each takes 8 bytes

Interval = tuple[float, float]
Columns = Mapping[str, Sequence[float | None]]
"""Metric -> one value a row, None where a row has none; all of one length."""


def bootstrap(columns: Columns, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Interval]:
    """Return the 95 % percentile interval of the mean of every column (Efron 1979).

    Rows are drawn with replacement, the same rows for all columns. None is left out of a mean. A column that holds
    only None has no interval. The same seed gives the same intervals.
    """
    import numpy
    from scipy import stats

    found = {}
    for name, column in columns.items():
        values = _array(column)
        if numpy.isnan(values).all():
            continue
        if len(values) == 1:  # scipy asks for two rows
            found[name] = (float(values[0]), float(values[0]))
            continue
        with warnings.catch_warnings():  # the mean of a resample without any value is nan and ignored
            warnings.simplefilter("ignore", RuntimeWarning)
            drawn = stats.bootstrap(
                (values,),
                numpy.nanmean,
                n_resamples=resamples,
                batch=max(1, _CELLS_AT_ONCE // len(values)),
                method="percentile",
                rng=numpy.random.default_rng(seed),
            )
        tail = (1 - LEVEL) / 2
        low, high = numpy.nanquantile(drawn.bootstrap_distribution, [tail, 1 - tail])
        found[name] = (float(low), float(high))
    return found


def sign_flip_p_values(columns: Columns, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, float]:
    """Return the two-sided p-value of every column of paired differences, by randomisation (Noreen 1989, Yeh 2000).

    If two systems are equally good, the sign of each difference is random. The signs are drawn `resamples` times; p is
    the share of draws, the observed one included, whose sum is at least as far from 0 as the observed sum. None counts
    as no difference.
    """
    import numpy

    table = numpy.stack([_array(column) for column in columns.values()], axis=1)
    known, values = ~numpy.isnan(table), numpy.nan_to_num(table)
    observed = numpy.abs(values.sum(axis=0))
    generator = numpy.random.default_rng(seed)
    as_far = numpy.zeros(values.shape[1])
    size = max(1, _CELLS_AT_ONCE // len(values))
    for start in range(0, resamples, size):
        signs = generator.integers(0, 2, size=(min(size, resamples - start), len(values))) * 2.0 - 1.0
        as_far += (numpy.abs(signs @ values) >= observed - 1e-9).sum(axis=0)
    p_values = (as_far + 1) / (resamples + 1)
    return {name: float(p_values[place]) for place, name in enumerate(columns) if known[:, place].any()}


def _array(column: Sequence[float | None]) -> Any:
    import numpy

    return numpy.array([numpy.nan if value is None else value for value in column], dtype=float)
