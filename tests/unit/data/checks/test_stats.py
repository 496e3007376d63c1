"""Shapes and ranks."""

from __future__ import annotations

from collections import Counter

import pytest

from qdsft.data.checks.stats import shape, summary
from qdsft.data.decomposition import Decomposition


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["a"], "none"),
        (["a", "b"], "none"),
        (["a", "#1"], "chain"),
        (["a", "#1", "#2", "#3"], "chain"),
        (["a", "#1", "#2 #1"], "graph"),
        (["a", "b", "#1 #2"], "parallel"),
        (["a", "b", "c", "#1 #3"], "parallel"),
        (["a", "b", "#1"], "tree"),
        (["a", "#1", "c", "#2 #3"], "tree"),
        (["a", "#1", "#1", "#2 #3"], "graph"),
    ],
)
def test_shapes(steps: list[str], expected: str) -> None:
    assert shape(Decomposition(tuple(steps))) == expected


def test_ranks_are_values_that_occur() -> None:
    assert summary(Counter(range(1, 101))) == {"min": 1, "median": 50, "p95": 95, "max": 100}
    assert summary(Counter({3: 1})) == {"min": 3, "median": 3, "p95": 3, "max": 3}
    assert summary(Counter()) == {}
