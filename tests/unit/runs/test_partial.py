"""Answers that were kept are used again, unless they are torn or of something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdsft.runs.partial import Decoded, append_to, partial_path, read_all, read_partial

IDENTITY = {"rows": "abc", "max_new_tokens": 8}


def decoded(index: int) -> Decoded:
    return Decoded(index, f"1. 답 {index}\n2. #1?", True, 9, 0.5, 1.25, 4)


def write(path: Path, *indices: int) -> None:
    with append_to(path, IDENTITY) as file:
        for index in indices:
            file.add(decoded(index))


def test_answers_are_there_as_soon_as_they_are_added(tmp_path: Path) -> None:
    path = partial_path(tmp_path, "tuned", 0)
    with append_to(path, IDENTITY) as file:
        file.add(decoded(3))
        assert read_all(tmp_path, "tuned", IDENTITY) == {3: decoded(3)}
    write(path, 5)
    assert read_all(tmp_path, "tuned", IDENTITY) == {3: decoded(3), 5: decoded(5)}


def test_the_files_of_all_processes_are_read_and_of_one_model_only(tmp_path: Path) -> None:
    for rank, model in ((0, "tuned"), (1, "tuned"), (0, "baseline")):
        write(partial_path(tmp_path, model, rank), rank)
    assert read_all(tmp_path, "tuned", IDENTITY).keys() == {0, 1}
    assert read_all(tmp_path, "baseline", IDENTITY).keys() == {0}


def test_a_line_torn_anywhere_is_dropped_and_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "p"
    write(path, 0, 1)
    whole = path.read_bytes()
    second = whole.index(b'{"index": 1')
    for cut in range(second, len(whole)):  # inside Korean letters too
        path.write_bytes(whole[:cut])
        found = read_partial(path, IDENTITY)
        assert found is not None and found[0].keys() == {0}
        write(path, 1)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\x00\x00\n", b"[1]\n", b'{"index": 4}\n', b"\xff\n", b"7\n"])
def test_nothing_behind_a_damaged_line_is_used(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p"
    write(path, 0)
    path.write_bytes(path.read_bytes() + damage + path.read_bytes().splitlines(keepends=True)[1])
    write(path, 6)
    found = read_partial(path, IDENTITY)
    assert found is not None and found[0].keys() == {0, 6}


@pytest.mark.parametrize(
    "first", [b"", b'{"rows": "abc"', b'{"rows": "other", "max_new_tokens": 8}\n', b"x\n", b"\xff"]
)
def test_a_file_of_something_else_is_discarded_and_that_is_said(
    first: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p"
    path.write_bytes(first + json.dumps({"index": 0}).encode())
    assert read_partial(path, IDENTITY) is None
    write(path, 2)
    assert capsys.readouterr().err == f"{path}: of another run, other rows or other settings; discarded\n"
    found = read_partial(path, IDENTITY)
    assert found is not None and found[0].keys() == {2}


def test_a_new_file_is_not_said_to_be_discarded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "p", 0)
    assert capsys.readouterr().err == ""
