"""Packing: each sample once and whole, rows that are full, and a file that holds the tokens it was given."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import pack_dataset

from qdsft.data.synth import generate
from qdsft.tokenization import packing
from qdsft.tokenization.packing import PACKED, Packer, bins
from qdsft.tokenization.rows import Block, Row

SIZE = 1024


def check(lengths: list[int], size: int, groups: list[list[int]]) -> None:
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(group and sum(lengths[index] for index in group) <= size for group in groups)


def full(lengths: list[int], size: int, rows: int) -> float:
    return sum(lengths) / (rows * size)


def trl_rows(lengths: list[int], size: int) -> int:
    dataset = Dataset.from_dict({"input_ids": [[0] * length for length in lengths]})
    return len(pack_dataset(dataset, size, "bfd", {"batch_size": len(lengths), "desc": None}))


@given(st.integers(1, 60).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size), max_size=80))))
def test_every_sample_stands_in_one_row_that_holds_it(given_sizes: tuple[int, list[int]]) -> None:
    size, lengths = given_sizes
    groups = bins(lengths, size)
    check(lengths, size, groups)
    if lengths:
        # Any two rows that could be one would be a waste that first fit does not allow either.
        sums = sorted(sum(lengths[index] for index in group) for group in groups)
        assert len(sums) < 2 or sums[0] + sums[1] > size


def question_lengths() -> list[int]:
    """About as many tokens as the rows of the corpus have, with a prompt of like length before each."""
    rows = [row for language in ("en", "ko") for row in generate(language, 2_000, 0)]
    return [60 + len(row["question"]) // 3 + sum(len(step) + 6 for step in row["sub_questions"]) // 3 for row in rows]


def test_rows_of_synthetic_questions_are_nearly_full() -> None:
    lengths = question_lengths()
    groups = bins(lengths, SIZE)
    check(lengths, SIZE, groups)
    ours = full(lengths, SIZE, len(groups))
    assert ours >= 0.98
    assert ours > full(lengths, SIZE, trl_rows(lengths, SIZE))


@pytest.mark.parametrize(
    ("low", "high"), [(1, 1024), (20, 200), (90, 110), (300, 700), (512, 513), (100, 100), (1024, 1024), (1, 3)]
)
def test_no_worse_than_trl(low: int, high: int) -> None:
    chance = random.Random(low)
    lengths = [chance.randint(low, high) for _ in range(800)]
    groups = bins(lengths, SIZE)
    check(lengths, SIZE, groups)
    assert len(groups) <= trl_rows(lengths, SIZE)


@pytest.mark.parametrize("together", [7, 50, 20_000])
def test_what_is_written_holds_the_same_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(packing, "TOGETHER", together)
    chance = random.Random(1)
    samples = [[chance.randrange(1000) for _ in range(chance.randint(1, 30))] for _ in range(100)]
    rows = [Row(ids, len(ids) // 2) for ids in samples]
    target = tmp_path / "packed.arrow"
    with arrow.ipc.new_stream(str(target), PACKED) as stream:
        packer = Packer(stream, 64)
        for start in range(0, 100, 10):
            packer.write(Block.of(rows[start : start + 10]))
        packer.finish()
    packed = Dataset.from_file(str(target))
    assert len(packed) == packer.rows
    found = []
    for row in packed:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) == len(row["labels"]) <= 64
        for end, length in zip(np.cumsum(row["seq_lengths"]), row["seq_lengths"], strict=True):
            found.append((row["input_ids"][end - length : end], row["labels"][end - length : end]))
    assert sorted(found) == sorted((row.input_ids, row.labels) for row in rows)
    best = len(bins([len(ids) for ids in samples], 64))
    assert (
        packer.rows == best if together >= 100 else packer.rows > best
    )  # the end of each window leaves a row that is not full
