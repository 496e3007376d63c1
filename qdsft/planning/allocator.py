"""A model of PyTorch's caching allocator on CUDA (c10/cuda/CUDACachingAllocator.cpp, default settings).

Sizes are rounded up to 512 bytes. Up to 1 MiB they come from segments of 2 MiB, below 10 MiB from segments of 20 MiB,
and each larger one gets a whole segment, rounded up to 2 MiB. A request takes the smallest free block that fits, and
splits it if enough remains. Freed blocks merge with free neighbours, and segments are kept.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

from qdsft.planning.peak import Event

MIB = 2**20
ROUND, SMALL, SMALL_SEGMENT = 512, MIB, 2 * MIB
LARGE, LARGE_SEGMENT, SEGMENT_ROUND = 10 * MIB, 20 * MIB, 2 * MIB


@dataclass
class _Block:
    """A part of a segment."""

    address: int
    size: int
    small: bool
    free: bool = False
    before: _Block | None = None
    after: _Block | None = None


class Allocator:
    """Serve requests and count what is reserved."""

    def __init__(self) -> None:
        self.reserved = 0
        self._blocks: dict[int, _Block] = {}
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        """Whether small -> sorted (size, address), as on CUDA: of equal blocks the lowest address is taken."""
        self._by_address: dict[int, _Block] = {}

    def replay(self, events: Iterable[Event]) -> int:
        """Serve all events in their order, and return the bytes that are reserved then."""
        for event in events:
            if event.size >= 0:
                self._blocks[event.number] = self._allocate(event.size)
            else:
                self._release(self._blocks.pop(event.number))
        return self.reserved

    def _allocate(self, wanted: int) -> _Block:
        size = max(-(-wanted // ROUND) * ROUND, ROUND)
        small = size <= SMALL
        pool = self._free[small]
        place = bisect_left(pool, (size, 0))
        if place < len(pool):
            block = self._by_address.pop(pool.pop(place)[1])
        else:
            block = _Block(self.reserved, _segment(size, small), small)
            self.reserved += block.size
        block.free = False
        rest = block.size - size
        if rest >= ROUND if small else rest > SMALL:
            remaining = _Block(block.address + size, rest, small, before=block, after=block.after)
            if block.after is not None:
                block.after.before = remaining
            block.after, block.size = remaining, size
            self._put(remaining)
        return block

    def _release(self, block: _Block) -> None:
        for neighbour in (block.before, block.after):
            if neighbour is None or not neighbour.free:
                continue
            self._free[block.small].remove((neighbour.size, neighbour.address))
            del self._by_address[neighbour.address]
            block.size += neighbour.size
            if neighbour is block.before:
                block.address = neighbour.address
                block.before = neighbour.before
                if block.before is not None:
                    block.before.after = block
            else:
                block.after = neighbour.after
                if block.after is not None:
                    block.after.before = block
        self._put(block)

    def _put(self, block: _Block) -> None:
        block.free = True
        self._by_address[block.address] = block
        insort(self._free[block.small], (block.size, block.address))


def _segment(size: int, small: bool) -> int:
    if small:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < LARGE else -(-size // SEGMENT_ROUND) * SEGMENT_ROUND
