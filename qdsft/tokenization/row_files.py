"""Arrow files of training rows: write, memory-map and pack them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow as arrow
import pyarrow.compute as compute
from datasets import Dataset
from datasets.table import MemoryMappedTable
from trl import pack_dataset

from qdsft.tokenization.rows import Row

TOKENS = arrow.list_(arrow.int32())
SCHEMA = arrow.schema([("input_ids", TOKENS), ("labels", TOKENS)])
PACKED_TOGETHER = 20_000
"""Rows that TRL packs at a time. Larger groups need more memory and leave as much room empty."""


def record_batch(rows: Sequence[Row]) -> arrow.RecordBatch:
    """Return rows as they are written to a file."""
    columns = [[row.input_ids for row in rows], [row.labels for row in rows]]
    return arrow.RecordBatch.from_arrays([arrow.array(column, TOKENS) for column in columns], schema=SCHEMA)


def of_rows(rows: Sequence[Row]) -> Dataset:
    """Return a few rows as a dataset in memory."""
    return Dataset(arrow.Table.from_batches([record_batch(rows)]))


def load_rows(path: Path) -> Dataset | None:
    """Memory-map a file of rows; None if it has none."""
    table = MemoryMappedTable.from_file(str(path))
    # The folder is named by the hash of its contents, so datasets need not compute a fingerprint.
    return Dataset(table, fingerprint=f"{path.parent.name[:32]}-{path.stem}") if len(table) else None


def largest_token(rows: Dataset) -> int:
    """Return the largest token id of a file of rows."""
    batches = rows.data.table.to_batches()
    return max(compute.max(batch.column("input_ids").flatten()).as_py() or 0 for batch in batches)


def pack_file(path: Path, max_length: int, strategy: str) -> int:
    """Replace a file of rows by its packed rows, which also have `seq_lengths`; return the number of packed rows."""
    rows = load_rows(path)
    assert rows is not None
    temporary = path.with_suffix(".packed")
    options = {"batch_size": PACKED_TOGETHER, "cache_file_name": str(temporary)}
    with _no_progress_bar():
        packed = pack_dataset(rows, max_length, strategy, options)
    count = len(packed)
    del rows, packed  # Windows cannot replace a file that is mapped
    os.replace(temporary, path)
    return count


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hide the bar of datasets, which every process would show for each file, however quick."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
