"""Several samples in one row, each whole: which ones go together, and the rows as they are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from qdsft.tokenization.rows import Block

TOGETHER = 20_000
"""Samples among which the best fit is looked for; more would fill no better, and memory follows it."""
TOKENS = arrow.list_(arrow.int32())
COLUMNS = arrow.schema([("input_ids", TOKENS), ("labels", TOKENS)])
PACKED = arrow.schema([*COLUMNS, ("seq_lengths", TOKENS)])

Integers = NDArray[np.int64]


def bins(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices of samples, grouped so that no group's lengths add up to more than `size` (in tokens, as they are).

    Best fit decreasing, but for the end of a group: once two samples may fill what is left of it, the two that
    do so best are taken. Plain best fit leaves gaps that no sample is short enough for. Every length must lie
    between 1 and `size`.
    """
    supply = _Supply(lengths, size)
    groups = []
    while supply.left:
        group: list[int] = []
        room = size
        while length := supply.next_for(room):
            group.append(supply.take(length))
            room -= length
        groups.append(group)
    return groups


class _Supply:
    """Samples that wait for a group, by length; of one length, the first comes first."""

    def __init__(self, lengths: Sequence[int], size: int) -> None:
        self.left = len(lengths)
        self._size = size
        self._waiting: list[list[int]] = [[] for _ in range(size + 1)]
        for index in range(len(lengths) - 1, -1, -1):
            self._waiting[lengths[index]].append(index)
        self._counts = np.array([len(ones) for ones in self._waiting])
        self._look()

    def _look(self) -> None:
        """Note which lengths there are, the longest that fits each room, and which length there is but once."""
        self._present = np.flatnonzero(self._counts)
        fitting = np.zeros(self._size + 1, np.int64)
        fitting[self._present] = self._present
        self._fitting = np.maximum.accumulate(fitting)
        self._single = self._counts[self._present] == 1

    def next_for(self, room: int) -> int:
        """The length to take next where `room` tokens are left; 0 if none fits."""
        best = int(self._fitting[room])
        if best in {room, 0} or room == self._size or room > 2 * int(self._present[-1]):
            return best
        firsts: Integers = self._present[: np.searchsorted(self._present, room, side="right")]
        seconds = self._fitting[room - firsts]
        alone = (firsts == seconds) & self._single[: len(firsts)]
        pair = int(np.argmax(np.where(alone, firsts, firsts + seconds)))
        return int(firsts[pair])

    def take(self, length: int) -> int:
        waiting = self._waiting[length]
        index = waiting.pop()
        self.left -= 1
        self._counts[length] = len(waiting)
        if len(waiting) < 2:
            self._look()
        return index


class Packer:
    """Writes samples to an Arrow stream (PACKED) as rows of at most `size` tokens.

    Every sample stands whole and unchanged in one row, and `seq_lengths` says where each ends. TOGETHER samples
    are held in memory at a time.
    """

    def __init__(self, stream: arrow.RecordBatchWriter, size: int) -> None:
        self.rows = 0
        """Rows that were written."""
        self._stream = stream
        self._size = size
        self._pending: list[Block] = []

    def write(self, block: Block) -> None:
        """Take samples, none of which may have more than `size` tokens."""
        self._pending.append(block)
        if sum(len(pending.lengths) for pending in self._pending) >= TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Write what is pending."""
        if self._pending:
            batch = _packed(self._pending, self._size)
            self._pending = []
            self._stream.write_batch(batch)
            self.rows += batch.num_rows


def _packed(blocks: Sequence[Block], size: int) -> arrow.RecordBatch:
    lengths = np.concatenate([block.lengths for block in blocks])
    groups = bins(lengths.tolist(), size)
    order = np.concatenate([np.array(group, np.int64) for group in groups])
    ends = np.cumsum(lengths[order])
    # For every token of the new order, where it stood in the old one.
    starts = np.cumsum(lengths) - lengths
    tokens = np.repeat(starts[order] - (ends - lengths[order]), lengths[order]) + np.arange(ends[-1])
    samples_to = np.cumsum([0, *(len(group) for group in groups)])
    tokens_to = np.concatenate([[0], ends])[samples_to]
    ids = np.concatenate([block.ids for block in blocks])[tokens]
    labels = np.concatenate([block.labels for block in blocks])[tokens]
    columns = [(tokens_to, ids), (tokens_to, labels), (samples_to, lengths[order].astype(np.int32))]
    lists = [arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), values) for offsets, values in columns]
    return arrow.RecordBatch.from_arrays(lists, schema=PACKED)
