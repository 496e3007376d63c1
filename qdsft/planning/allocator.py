"""A model of PyTorch's caching allocator on CUDA (c10/cuda/CUDACachingAllocator.cpp, default settings).

Sizes are rounded up to 512 bytes. Up to 1 MiB they come from segments of 2 MiB, below 10 MiB from segments of 20 MiB,
and each larger one gets a whole segment, rounded up to 2 MiB. A request takes the smallest free block that fits, of
equal blocks the one with the lowest address, and splits it if enough remains. Freed blocks merge with free neighbours,
and segments are kept.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

from qdsft.planning.peak import Event

MIB = 2**20
ROUND, SMALL, SMALL_SEGMENT = 512, MIB, 2 * MIB
LARGE, LARGE_SEGMENT, SEGMENT_ROUND = 10 * MIB, 20 * MIB, 2 * MIB


class _Block(NamedTuple):
    """A part of a segment."""

    size: int
    address: int
    small: bool


class Allocator:
    """Serve requests and count what is reserved."""

    def __init__(self) -> None:
        self.reserved = 0
        self._next_address = 0
        self._used: dict[int, _Block] = {}
        self._free: dict[bool, list[_Block]] = {True: [], False: []}
        """Free blocks of small and of other segments, in the order in which they are taken."""
        self._from: dict[int, _Block] = {}
        self._until: dict[int, _Block] = {}
        """Free blocks by the addresses where they begin and end."""

    def replay(self, events: Iterable[Event]) -> int:
        """Serve all events in their order, and return the bytes that are reserved then."""
        for event in events:
            if event.size >= 0:
                self._used[event.number] = self._allocate(max(-(-event.size // ROUND) * ROUND, ROUND))
            else:
                self._release(self._used.pop(event.number))
        return self.reserved

    def _allocate(self, size: int) -> _Block:
        small = size <= SMALL
        pool = self._free[small]
        place = bisect_left(pool, _Block(size, 0, small))
        block = self._take(pool[place]) if place < len(pool) else self._reserve(size, small)
        rest = block.size - size
        if rest < ROUND or (not small and rest <= SMALL):
            return block
        self._put(_Block(rest, block.address + size, small))
        return _Block(size, block.address, small)

    def _reserve(self, size: int, small: bool) -> _Block:
        """Return a new segment. A gap before the next one keeps blocks of two segments from being neighbours."""
        size = LARGE_SEGMENT if size < LARGE else -(-size // SEGMENT_ROUND) * SEGMENT_ROUND
        block = _Block(SMALL_SEGMENT if small else size, self._next_address, small)
        self._next_address += block.size + ROUND
        self.reserved += block.size
        return block

    def _release(self, block: _Block) -> None:
        size, address, small = block
        if (before := self._until.get(address)) is not None:
            self._take(before)
            size, address = before.size + size, before.address
        if (after := self._from.get(address + size)) is not None:
            size += self._take(after).size
        self._put(_Block(size, address, small))

    def _put(self, block: _Block) -> None:
        insort(self._free[block.small], block)
        self._from[block.address] = self._until[block.address + block.size] = block

    def _take(self, block: _Block) -> _Block:
        pool = self._free[block.small]
        del pool[bisect_left(pool, block)], self._from[block.address], self._until[block.address + block.size]
        return block
