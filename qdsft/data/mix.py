"""Mix the training rows of several sources in exact shares, by repeating rows of the smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def epoch_rows(rows: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many rows of each source an epoch has: the shares of the weights, off by less than one row.

    The epoch is the smallest in which every row of every source occurs. Sources without rows are left out.
    """
    present = {name: weights[name] for name, count in rows.items() if count}
    total = sum(present.values())
    size = max(round(rows[name] * total / weight) for name, weight in present.items())
    exact = {name: max(size * weight / total, rows[name]) for name, weight in present.items()}
    whole = {name: int(share) for name, share in exact.items()}
    missing = max(size - sum(whole.values()), 0)
    largest = sorted(present, key=lambda name: whole[name] - exact[name])
    return {name: count + (name in largest[:missing]) for name, count in whole.items()}


def repeats(keys: Sequence[str], size: int) -> list[int]:
    """Return how often each row occurs in an epoch of `size` rows: all equally often, or once more.

    Which rows occur once more follows from their `keys`, so it does not depend on their order.
    """
    times, rest = divmod(size, len(keys))
    more = set(sorted(range(len(keys)), key=keys.__getitem__)[:rest])
    return [times + (place in more) for place in range(len(keys))]
