"""Number the programs of one shape."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate

from qdsft.data.synth.programs import Node

Make = Callable[[int], Node]
Block = tuple[int, Make]
"""(number of programs, function that makes the n-th)."""
FRAMES = 3


class Form:
    """Questions of one shape, numbered from 0: programs in all their phrasings.

    Programs come in blocks and are made on demand, so a form takes little memory.
    """

    def __init__(self, blocks: Iterable[Block], styles: int = 2) -> None:
        """`styles` is the number of styles that differ in wording."""
        self._parts = [(size * FRAMES * styles, make, styles) for size, make in blocks if size]
        self._ends = list(accumulate(size for size, _, _ in self._parts))

    def __add__(self, other: Form) -> Form:
        joined = Form(())
        joined._parts = self._parts + other._parts
        joined._ends = list(accumulate(size for size, _, _ in joined._parts))
        return joined

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Node, int, int]:
        """Return (program, frame, style), the arguments of `English.question` and `Korean.question`."""
        part = bisect_right(self._ends, index)
        _, make, styles = self._parts[part]
        program, phrasing = divmod(index - (self._ends[part - 1] if part else 0), FRAMES * styles)
        style, frame = divmod(phrasing, FRAMES)
        return make(program), frame, style


def listed(programs: Sequence[Node]) -> Form:
    return Form([(len(programs), programs.__getitem__)])


def wrapped(outer: Callable[[Node], Node], blocks: Iterable[Block]) -> Iterator[Block]:
    for size, make in blocks:
        yield size, partial(_outside, outer, make)


def _outside(outer: Callable[[Node], Node], make: Make, index: int) -> Node:
    return outer(make(index))
