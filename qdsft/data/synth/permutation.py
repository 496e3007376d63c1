"""Random orders of long ranges without memory: the n-th element is computed."""

from __future__ import annotations

import hashlib
from math import isqrt

_ROUNDS = 6


class Permutation:
    """A pseudo-random permutation of range(size): a Feistel network over a rectangle that holds the range.

    A value outside of the range goes through the network again. This ends because the network permutes the whole
    rectangle, and soon because the rectangle is hardly larger than the range.
    """

    __slots__ = ("_high", "_keys", "_low", "size")

    def __init__(self, size: int, key: str) -> None:
        self.size = size
        self._high = isqrt(size - 1) + 1 if size > 1 else 1
        self._low = -(-size // self._high)
        digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8 * _ROUNDS).digest()
        self._keys = [int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS)]

    def __getitem__(self, index: int) -> int:
        """Return the element at a position in 0..size-1."""
        high, low = self._high, self._low
        while True:
            left, right = divmod(index, low)
            for number, key in enumerate(self._keys):
                if number % 2:
                    right = (right + _mix(left, key)) % low
                else:
                    left = (left + _mix(right, key)) % high
            index = left * low + right
            if index < self.size:
                return index


def _mix(value: int, key: int) -> int:
    """Return a number that depends on all bits of both, by multiplying and folding down the high half."""
    product = (value + key) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    product = (product ^ product >> 32) * 0xD6E8FEB86659FD93 & 0xFFFFFFFFFFFFFFFF
    return product ^ product >> 32
