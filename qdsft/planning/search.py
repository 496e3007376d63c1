"""Search the largest number that fits, with few evaluations: each is a trace."""

from __future__ import annotations

import math
from collections.abc import Callable

CLOSE = 0.01
"""The search ends where this share more does not fit."""
USED = 0.98
"""It also ends where so much is used of the memory that the smallest known peak leaves free."""
FEW = 5
"""Evaluations after which every other guess halves what is left."""
MOST = 12
"""Evaluations at most."""


def largest(limit: int, start: int, peak: Callable[[int], float], memory: float) -> int:
    """Return about the largest number up to `limit` whose peak is at most `memory`, or 0. Peaks grow with the number.

    The first guess is `start`; the next follow the parabola through the three nearest peaks. The answer itself fits.
    """
    low, high = 0, limit + 1
    known: dict[int, float] = {}
    guess = min(max(start, 1), limit)
    while high - low > max(1, int(CLOSE * low)) and len(known) < MOST:
        known[guess] = peak(guess)
        least = min(known.values())
        if least < known[guess] <= memory and known[guess] - least >= USED * (memory - least):
            return guess
        low, high = (guess, high) if known[guess] <= memory else (low, guess)
        guess = min(max(_next(known, memory, low, high), low + 1), high - 1)
    return low


def _next(known: dict[int, float], memory: float, low: int, high: int) -> int:
    """Return where the peak is expected to be slightly below `memory`."""
    further = 4 if known.get(low, memory) > memory / 2 else 32
    if len(known) == 1:
        (number,) = known
        return number * further if number == low else number // 2
    nearest = sorted(known, key=lambda number: abs(known[number] - memory))[:3]
    halves = min((low + high) // 2, further * low) if low else high // 2
    if len(known) > FEW and len(known) % 2:
        return halves  # where curves mislead, halves do not
    wanted = (1 - CLOSE / 4) * memory
    found = _where(sorted(nearest), known, wanted)
    return int(found) if low < found < high else halves


def _where(numbers: list[int], known: dict[int, float], wanted: float) -> float:
    """Return where the parabola, or line, through these peaks is `wanted`; 0 where it never is."""
    first, second = numbers[:2]
    slope = (known[second] - known[first]) / (second - first)
    bend = 0.0
    if len(numbers) > 2:
        third = numbers[2]
        bend = ((known[third] - known[second]) / (third - second) - slope) / (third - first)
    # known[first] + slope * x + bend * x * (x - (second - first)) = wanted, with x counted from `first`
    linear, rest = slope - bend * (second - first), known[first] - wanted
    if bend <= 0:
        return first - rest / slope if slope > 0 else 0.0
    inside = linear**2 - 4 * bend * rest
    return first + (-linear + math.sqrt(inside)) / (2 * bend) if inside >= 0 else 0.0
