"""The search for the most that fits, with few evaluations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdsft.planning.search import CLOSE, MOST, USED, largest


def count(limit: int, start: int, memory: float, fixed: float, slope: float, square: float) -> tuple[int, list[int]]:
    asked: list[int] = []

    def peak(number: int) -> float:
        assert 0 < number <= limit and number not in asked
        asked.append(number)
        return fixed + slope * number + square * number**2

    return largest(limit, start, peak, memory), asked


@given(
    st.integers(1, 20000),
    st.integers(1, 5000),
    st.floats(0, 100),
    st.floats(0, 50),
    st.floats(0.001, 10),
    st.floats(0, 0.1),
)
def test_it_fits_and_more_does_not(
    limit: int, start: int, memory: float, fixed: float, slope: float, square: float
) -> None:
    found, asked = count(limit, start, memory, fixed, slope, square)
    assert len(asked) <= MOST
    assert found == 0 or fixed + slope * found + square * found**2 <= memory
    if len(asked) < MOST:
        more = found + max(1, int(CLOSE * found))
        peak = fixed + slope * more + square * more**2
        least = fixed + slope * min(asked) + square * min(asked) ** 2
        close = fixed + slope * found + square * found**2 - least >= USED * (memory - least)
        assert more > limit or peak > memory or close


@pytest.mark.parametrize("square", [0, 0.001, 0.01])
def test_few_evaluations_are_enough(square: float) -> None:
    found, asked = count(16384, 16, 8000, 5000, 30, square)
    assert found and len(asked) <= 6


def test_a_limit_that_fits_is_the_answer() -> None:
    assert count(64, 16, 1e9, 1, 1, 0)[0] == 64
    assert count(64, 16, 0, 1, 1, 0)[0] == 0
