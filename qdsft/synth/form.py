"""Numbered programs of one shape."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate

from qdsft.synth.programs import Node

Make = Callable[[int], Node]


class Form:
    """Programs of one shape, numbered from 0; blocks of them are made on demand and take no memory."""

    def __init__(self, blocks: Iterable[tuple[int, Make]], styles: int = 2) -> None:
        kept = [(size, make) for size, make in blocks if size]
        self._makes = [make for _, make in kept]
        self._ends = list(accumulate(size for size, _ in kept))
        self.styles = styles
        """How many styles make a difference in the wording."""

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Node:
        block = bisect_right(self._ends, index)
        return self._makes[block](index - (self._ends[block - 1] if block else 0))


def listed(programs: Sequence[Node]) -> Form:
    return Form([(len(programs), programs.__getitem__)])


def wrapped(outer: Callable[[Node], Node], blocks: Iterable[tuple[int, Make]]) -> Iterator[tuple[int, Make]]:
    for size, make in blocks:
        yield size, partial(_outside, outer, make)


def _outside(outer: Callable[[Node], Node], make: Make, index: int) -> Node:
    return outer(make(index))
