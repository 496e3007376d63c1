"""Several samples in one row, each whole: which ones go together, and the rows on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

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
        if best == room or best == 0 or room > 2 * int(self._present[-1]):
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


def pack_file(source: Path, target: Path, size: int) -> int:
    """Write the samples of an Arrow stream (COLUMNS) as rows of at most `size` tokens (PACKED); returns their number.

    Every sample stands whole and unchanged in one row, and `seq_lengths` says where each ends. TOGETHER samples
    are held in memory at a time.
    """
    rows = 0
    with arrow.memory_map(str(source)) as file, target.open("wb") as out, arrow.ipc.new_stream(out, PACKED) as stream:
        for table in _windows(arrow.ipc.open_stream(file)):
            batch = _packed(table, size)
            stream.write_batch(batch)
            rows += batch.num_rows
    return rows


def _windows(batches: arrow.RecordBatchStreamReader) -> Iterator[arrow.Table]:
    pending: list[arrow.RecordBatch] = []
    for batch in batches:
        pending.append(batch)
        if sum(len(one) for one in pending) >= TOGETHER:
            yield arrow.Table.from_batches(pending)
            pending = []
    if pending:
        yield arrow.Table.from_batches(pending)


def _packed(table: arrow.Table, size: int) -> arrow.RecordBatch:
    samples = table.combine_chunks()
    column = samples["input_ids"].chunk(0)
    starts: Integers = column.offsets.to_numpy().astype(np.int64)
    lengths = np.diff(starts)
    groups = bins(lengths.tolist(), size)
    order = np.concatenate([np.array(group, np.int64) for group in groups])
    ends = np.cumsum(lengths[order])
    # For every token of the new order, where it stood in the old one.
    tokens = np.repeat(starts[order] - (ends - lengths[order]), lengths[order]) + np.arange(ends[-1])
    samples_to = np.cumsum([0, *(len(group) for group in groups)])
    tokens_to = np.concatenate([[0], ends])[samples_to]
    flat = [samples[name].chunk(0).values.to_numpy()[tokens] for name in COLUMNS.names]
    columns = [(tokens_to, flat[0]), (tokens_to, flat[1]), (samples_to, lengths[order].astype(np.int32))]
    lists = [arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), values) for offsets, values in columns]
    return arrow.RecordBatch.from_arrays(lists, schema=PACKED)
