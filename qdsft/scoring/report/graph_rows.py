"""Which row of a graph's drawing each step stands in, and the order in a row: no coordinates yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean

from qdsft.data.decomposition import Decomposition

PER_ROW = 2
"""Boxes beside each other: more would leave their text no room on a phone."""

Item = tuple[str, int]
"""("box", step), or ("lane", step that the arrow passing here leads to)."""


@dataclass
class References:
    """Step -> the steps that it refers to, by kind."""

    good: dict[int, list[int]] = field(default_factory=dict)
    later: dict[int, list[int]] = field(default_factory=dict)
    own: dict[int, list[int]] = field(default_factory=dict)
    missing: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, decomposition: Decomposition, steps: int) -> References:
        """Those of the first `steps` steps; one to a step beyond them is missing, as one to none is."""
        found = cls()
        for source, target in decomposition.edges:
            kind = found.missing
            if 1 <= source <= steps:
                kind = found.good if source < target else found.later if source > target else found.own
            if target <= steps:
                kind.setdefault(target, []).append(source)
        return found


def rows_of(steps: int, sources: dict[int, list[int]]) -> list[list[int]]:
    """Each step in the first row below its sources that has room."""
    rows: list[list[int]] = []
    row_of: dict[int, int] = {}
    for step in range(1, steps + 1):
        first = max((row_of[source] + 1 for source in sources.get(step, ())), default=0)
        row_of[step] = next(row for row in count(first) if row == len(rows) or len(rows[row]) < PER_ROW)
        if row_of[step] == len(rows):
            rows.append([])
        rows[row_of[step]].append(step)
    return rows


def ordered(numbers: list[list[int]], sources: dict[int, list[int]]) -> list[list[Item]]:
    """Rows with boxes and lanes from left to right, ordered so that arrows cross little (barycentre heuristic)."""
    row_of = {step: row for row, steps in enumerate(numbers) for step in steps}
    rows: list[list[Item]] = [[("box", step) for step in steps] for steps in numbers]
    for target, from_steps in sources.items():
        for row in range(min(row_of[source] for source in from_steps) + 1, row_of[target]):
            rows[row].append(("lane", target))

    def joined(above: Item, below: Item) -> bool:
        return above == ("lane", below[1]) or (above[0] == "box" and above[1] in sources.get(below[1], ()))

    for _ in range(2):
        for row in range(1, len(rows)):
            _sort(rows[row], rows[row - 1], lambda item, other: joined(other, item))
        for row in range(len(rows) - 2, -1, -1):
            _sort(rows[row], rows[row + 1], joined)
    return rows


def _sort(items: list[Item], others: list[Item], joined: Callable[[Item, Item], bool]) -> None:
    def centre(item: Item) -> float:
        places = [(place + 0.5) / len(others) for place, other in enumerate(others) if joined(item, other)]
        return fmean(places) if places else (before.index(item) + 0.5) / len(before)

    before = list(items)
    items.sort(key=lambda item: (round(centre(item), 6), item[1], item[0]))


def ways_up(later: dict[int, list[int]], rows: list[list[Item]]) -> dict[int, int]:
    """Step that refers to later ones -> its lane, 1, 2, ...; ways that share a row do not share a lane."""
    row_of = {step: index for index, row in enumerate(rows) for kind, step in row if kind == "box"}
    reach = {step: [row_of[other] for other in (step, *others)] for step, others in later.items()}
    lanes: dict[int, int] = {}
    for step in later:
        taken = {lane for other, lane in lanes.items() if _overlap(reach[step], reach[other])}
        lanes[step] = next(lane for lane in count(1) if lane not in taken)
    return lanes


def _overlap(one: list[int], other: list[int]) -> bool:
    # A way begins below its lowest row, where another one may end: hence one row more.
    return min(one) <= max(other) + 1 and min(other) <= max(one) + 1
