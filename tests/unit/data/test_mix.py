"""Exact shares of several sources, with every row in every epoch."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from qdsft.data.mix import epoch_rows, repeats


@pytest.mark.parametrize(
    ("rows", "weights", "epoch"),
    [
        ({"a": 100, "b": 100}, {"a": 1, "b": 1}, {"a": 100, "b": 100}),
        ({"a": 100, "b": 50}, {"a": 1, "b": 1}, {"a": 100, "b": 100}),
        ({"a": 100, "b": 50}, {"a": 2, "b": 1}, {"a": 100, "b": 50}),
        ({"a": 100, "b": 50}, {"a": 4, "b": 1}, {"a": 200, "b": 50}),
        ({"a": 10, "b": 10, "c": 10}, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 25, "b": 15, "c": 10}),
        ({"a": 100, "b": 0}, {"a": 1, "b": 9}, {"a": 100}),
    ],
)
def test_the_smallest_epoch_with_every_row(
    rows: dict[str, int], weights: dict[str, float], epoch: dict[str, int]
) -> None:
    assert epoch_rows(rows, weights) == epoch


def test_shares_are_exact_to_one_row_and_no_row_is_lost() -> None:
    chance = random.Random(0)
    for _ in range(500):
        names = "abcd"[: chance.randint(2, 4)]
        rows = {name: chance.randint(1, 2000) for name in names}
        weights = {name: chance.choice([0.1, 1, 2.5, 7]) for name in names}
        found = epoch_rows(rows, weights)
        total = sum(found.values())
        for name in names:
            assert found[name] >= rows[name]
            assert abs(found[name] - total * weights[name] / sum(weights.values())) < 2


def test_rows_are_repeated_equally_often_whatever_their_order() -> None:
    keys = [f"{number:03}" for number in range(40)]
    times = repeats(keys, 100)
    assert sum(times) == 100 and Counter(times) == {2: 20, 3: 20}
    shuffled = random.Random(1).sample(keys, len(keys))
    assert dict(zip(shuffled, repeats(shuffled, 100), strict=True)) == dict(zip(keys, times, strict=True))
    assert repeats(["x"] * 3, 4) == [2, 1, 1]
