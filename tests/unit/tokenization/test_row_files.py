"""Arrow files of rows: they hold the samples they were given, packed or not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as arrow
import pytest
from datasets import Dataset

from qdsft.data.synth import generate
from qdsft.tokenization import row_files
from qdsft.tokenization.row_files import SCHEMA, load_rows, of_rows, pack_file, record_batch
from qdsft.tokenization.rows import Row


def write(path: Path, rows: list[Row]) -> None:
    with arrow.ipc.new_stream(str(path), SCHEMA) as stream:
        for start in range(0, len(rows), 100):
            stream.write_batch(record_batch(rows[start : start + 100]))


def samples_of(data: Dataset) -> list[tuple[list[int], list[int]]]:
    found = []
    for row in data:
        start = 0
        for length in row["seq_lengths"]:
            found.append((row["input_ids"][start : start + length], row["labels"][start : start + length]))
            start += length
        assert start == len(row["input_ids"]) == len(row["labels"])
    return found


def test_a_file_holds_its_rows(tmp_path: Path) -> None:
    rows = [Row([n, n + 1, n + 2], n % 3) for n in range(150)]
    path = tmp_path / "rows.arrow"
    write(path, rows)
    loaded = load_rows(path)
    assert loaded is not None
    assert loaded.to_list() == of_rows(rows).to_list() == [{"input_ids": r.input_ids, "labels": r.labels} for r in rows]
    write(path, [])
    assert load_rows(path) is None


def test_packed_rows_hold_each_sample_once_and_whole_and_are_nearly_full(tmp_path: Path) -> None:
    """Synthetic questions, with about as many tokens as a real tokenizer gives them."""
    questions = [row for language in ("en", "ko") for row in generate(language, 1_000, 0)]
    lengths = [
        60 + (len(row["question"]) + sum(len(step) + 6 for step in row["sub_questions"])) // 3 for row in questions
    ]
    rows = [Row(list(range(n, n + length)), length // 2) for n, length in enumerate(lengths)]
    path = tmp_path / "rows.arrow"
    write(path, rows)
    count = pack_file(path, 1024, "bfd")
    packed = load_rows(path)
    assert packed is not None and len(packed) == count
    assert max(map(len, packed["input_ids"])) <= 1024
    assert sorted(samples_of(packed)) == sorted((row.input_ids, row.labels) for row in rows)
    assert sum(lengths) / (count * 1024) > 0.96
    assert [file.name for file in tmp_path.iterdir()] == ["rows.arrow"]


def test_rows_are_packed_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "PACKED_TOGETHER", 7)
    rows = [Row([n] * (n % 20 + 1), 1) for n in range(100)]
    path = tmp_path / "rows.arrow"
    write(path, rows)
    pack_file(path, 64, "bfd")
    packed = load_rows(path)
    assert packed is not None
    assert sorted(samples_of(packed)) == sorted((row.input_ids, row.labels) for row in rows)
