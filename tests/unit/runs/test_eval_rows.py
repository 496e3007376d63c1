"""The held-out rows that a run directory keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.runs.eval_rows import read_eval_rows, write_eval_rows


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()


def test_held_out_rows_come_back() -> None:
    row = {"question": "한국?\u2028", "sub_questions": ["a"], "id": 7}
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": "한국?"})
    write_eval_rows(Path("run"), [Example(Record(row, "t.jsonl:9"), messages, "1. a")] * 2)
    assert read_eval_rows(Path("run")) == [
        Example(Record(row, f"run/eval.jsonl:{line}"), messages, "1. a") for line in (1, 2)
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "q"}', "run/eval.jsonl:1: damaged, or written by another version of qdsft; train again"),
        ('{"row": {}, "messages": "x", "completion": "y"}', "run/eval.jsonl:1: damaged, or written by another"),
        ('{"row": [], "messages": [], "completion": "y"}', "run/eval.jsonl:1: damaged, or written by another"),
        ('{"row": {}, "messages": [], "comple', "run/eval.jsonl:1: not JSON at column"),
        ("", "run/eval.jsonl: there are no rows; give a file with at least one"),
    ],
)
def test_damaged_held_out_rows(line: str, message: str) -> None:
    Path("run/eval.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_eval_rows(Path("run"))
    assert str(caught.value).startswith(message)


def test_held_out_rows_that_are_missing() -> None:
    with pytest.raises(UserError, match=r"run/eval\.jsonl: No such file or directory"):
        read_eval_rows(Path("run"))
