"""The allocator's model against what CUDACachingAllocator.cpp says it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdsft.planning.allocator import MIB, Allocator
from qdsft.planning.peak import Event


def reserved(*sizes: int) -> int:
    """Replay requests, and releases given as minus their place."""
    events, made = [], 0
    for size in sizes:
        if size >= 0:
            events.append(Event(made, size))
            made += 1
        else:
            events.append(Event(-size - 1, -1))
    return Allocator().replay(events)


@pytest.mark.parametrize(
    ("sizes", "mebibytes"),
    [
        ((1,), 2),
        ((0,), 2),
        ((MIB,), 2),
        ((MIB, MIB), 2),
        ((MIB, MIB, 1), 4),
        ((MIB + 1,), 20),
        ((9 * MIB, 9 * MIB), 20),
        ((9 * MIB, 9 * MIB, 9 * MIB), 40),
        ((10 * MIB,), 10),
        ((11 * MIB - 1,), 12),
        ((100 * MIB, -1, 60 * MIB, 40 * MIB), 100),
        ((100 * MIB, -1, 60 * MIB, 41 * MIB), 142),
        # What remains of a large block is split off only above 1 MiB.
        ((12 * MIB, -1, 11 * MIB, 1), 14),
        ((12 * MIB, -1, 11 * MIB, MIB + 1), 32),
    ],
)
def test_segments(sizes: tuple[int, ...], mebibytes: int) -> None:
    assert reserved(*sizes) == mebibytes * MIB


def test_freed_neighbours_become_one_block() -> None:
    sizes = (100 * MIB, -1, 30 * MIB, 30 * MIB, 40 * MIB)
    assert reserved(*sizes, -2, -3, 60 * MIB) == 100 * MIB
    assert reserved(*sizes, -3, -2, 60 * MIB) == 100 * MIB
    assert reserved(*sizes, -2, -4, 60 * MIB) == 160 * MIB, "they are not neighbours"
    assert reserved(*sizes, -2, -4, -3, 100 * MIB) == 100 * MIB


@pytest.mark.parametrize("freed", [(-1, -3), (-3, -1)])
def test_of_equal_blocks_the_lowest_address_is_taken(freed: tuple[int, int]) -> None:
    """Where Python keeps the blocks must not matter: 60 MiB are free at once only if the first block is taken."""
    sizes = (30 * MIB, 100 * MIB, 30 * MIB, 30 * MIB)
    in_one_segment = (120 * MIB, -1, *(size if size < 100 * MIB else 30 * MIB for size in sizes))
    places = tuple(place - 1 for place in freed)
    assert reserved(*in_one_segment, *places, 30 * MIB, -5, 60 * MIB) == 120 * MIB


def test_the_smallest_block_that_fits_is_taken() -> None:
    assert reserved(50 * MIB, 20 * MIB, -1, -2, 20 * MIB, 50 * MIB) == 70 * MIB


@given(st.lists(st.tuples(st.integers(0, 40 * MIB), st.booleans()), max_size=60))
def test_it_holds_what_is_live_and_less_than_the_sum(requests: list[tuple[int, bool]]) -> None:
    allocator, events, live, most = Allocator(), [], 0, 0
    for number, (size, freed) in enumerate(requests):
        events.append(Event(number, size))
        live += size
        most = max(most, live)
        if freed:
            events.append(Event(number, -max(size, 1)))
            live -= size
    found = allocator.replay(events)
    assert most <= found <= sum(size + 20 * MIB for size, _ in requests)
