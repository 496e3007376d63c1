"""Files of questions, as people have them and as they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdsft.data.record import Record
from qdsft.data.task import Task, task_of
from qdsft.errors import UserError
from qdsft.hashing import file_sha256
from qdsft.inference.questions import read_questions
from qdsft.recipe.sections import Prompt

DECOMPOSITION = task_of(Prompt())


def found(path: Path, task: Task = DECOMPOSITION) -> list[str]:
    """`line: question` of each row, or `line! kind`."""
    rows = read_questions(path, task)
    return [
        f"{row.source.removeprefix(str(path))}: {row.row[task.columns[0]]}"
        if isinstance(row, Record)
        else f"{row.source.removeprefix(str(path))}! {row.kind}"
        for row in rows
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("q.txt", b"\xef\xbb\xbfWho?\r\n\n  \xec\x84\x9c\xec\x9a\xb8?  \nWho?", [":1: Who?", ":3: 서울?", ":4: Who?"]),
        ("q.txt", b"", []),
        ("q.txt", b"\xef\xbb\xbf\n \n", []),
        ("q.txt", b"a?\n\xff\xfe\nb?\n", [":1: a?", ":2! not UTF-8", ":3: b?"]),
        ("q.txt", b"a\x00b\n", [":1! control character"]),
        ("q.txt", b'{"question": "a"}\n', [':1: {"question": "a"}']),
        ("q.TXT", b"a?", [":1: a?"]),
        (
            "q.jsonl",
            b'{"question": "a?", "id": 3}\n[]\n{"question": ""}\n',
            [":1: a?", ":2! not an object", ":3! ques"],
        ),
        ("q.jsonl", b'{"question": 3}\n{"questoin": "a"}\n{', [":1! question", ":2! question", ":3! not JSON"]),
        ("q.json", b'[{"question": "a?"}]', [":1: a?"]),
        ("q.csv", 'question,id\n"왜, 왜?",1\n'.encode(), [":2: 왜, 왜?"]),
        ("q.jsonl", b"\x89PNG\r\n\x1a\n\x00\x00", [":1! not UTF-8"]),
        ("q.jsonl", b"", []),
    ],
)
def test_rows_and_faults(tmp_path: Path, name: str, content: bytes, expected: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    got = found(path)
    assert len(got) == len(expected)
    assert all(line.startswith(start) for line, start in zip(got, expected, strict=True)), got


def test_parquet_and_columns_that_json_cannot_hold(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "q.parquet"
    parquet.write_table(arrow.table({"question": ["a?", "b?"], "scores": [[1.0], [float("nan")]]}), path)
    assert found(path) == [":1: a?", ":2! NaN or infinity"]


def test_another_task_has_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("It rained.\n", encoding="utf-8")
    assert found(path, task_of(Prompt(user="{{ article }}", completion="{{ summary }}"))) == [":1: It rained."]
    with pytest.raises(UserError, match="this run's prompt has the columns a, b; give JSON Lines with them"):
        found(path, task_of(Prompt(user="{{ a }} {{ b }}", completion="{{ summary }}")))
    with pytest.raises(UserError, match="this run's prompt has the columns article; give JSON Lines"):
        found(path, task_of(Prompt(user="{{ article }}")))


@pytest.mark.parametrize("name", ["nope.txt", "nope.jsonl", "."])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"(No such file|Is a directory).*looked at .*; correct the path"):
        found(tmp_path / name)
    with pytest.raises(UserError, match=r"(No such file|Is a directory).*looked at .*; correct the path"):
        file_sha256(tmp_path / name)
