"""The computed permutation: each element once, the same everywhere, without visible order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qdsft.data.synth.permutation import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 100, 1023, 5041])
def test_each_element_comes_once(size: int) -> None:
    order = Permutation(size, "key")
    assert sorted(order[n] for n in range(size)) == list(range(size))


def test_keys_give_different_orders_and_the_same_key_the_same() -> None:
    first, again, other = ([Permutation(500, key)[n] for n in range(500)] for key in ("a", "a", "b"))
    assert first == again
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 15


def test_the_order_is_pinned_across_processes_and_releases() -> None:
    assert [Permutation(1000, "7/en/filter")[n] for n in range(6)] == PINNED


def test_neighbours_are_not_neighbours_afterwards() -> None:
    size = 100_000
    order = Permutation(size, "spread")
    head = [order[n] for n in range(2000)]
    assert abs(sum(head) / len(head) - size / 2) < size * 0.03
    assert sum(abs(a - b) < size // 100 for a, b in pairwise(head)) < 80
    tenths = [sum(value * 10 // size == tenth for value in head) for tenth in range(10)]
    assert all(140 < count < 260 for count in tenths)


def test_large_ranges_are_walked_quickly() -> None:
    order = Permutation(10**12, "large")
    assert len({order[n] for n in range(10_000)}) == 10_000


PINNED = [404, 966, 46, 171, 587, 90]
