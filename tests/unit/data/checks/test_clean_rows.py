"""What --write-clean writes, and what it counts."""

from __future__ import annotations

import json

from qdsft.data.checks.clean_rows import CleanRows
from qdsft.data.checks.problems import CheckedRow, Problem
from qdsft.data.record import Record


def row_of(steps: list[str], *kinds: str) -> CheckedRow:
    record = Record({"question": "q?", "sub_questions": steps, "id": 7}, "d.jsonl:1")
    problems = [Problem("error", kind, record.source, "message") for kind in kinds]
    return CheckedRow(record.source, record, problems=problems, usable=not kinds)


def test_usable_rows_are_written_with_all_columns_and_others_counted() -> None:
    lines: list[str] = []
    write = CleanRows(lines.append)
    write(row_of(["가?"]))
    write(row_of(["a"], "empty step", "other"))
    assert [json.loads(line) for line in lines] == [{"question": "q?", "sub_questions": ["가?"], "id": 7}]
    assert "가" in lines[0] and lines[0].endswith("\n")
    assert write.summary() == "1 rows written, 1 dropped: 1 empty step"


def test_numbers_before_steps_are_removed_if_they_are_the_only_fault() -> None:
    lines: list[str] = []
    write = CleanRows(lines.append)
    write(row_of(["1. Who?", "2. Is #1 tall?"], "numbered steps"))
    write(row_of(["1. Who?", "2. Is #1 tall?"], "numbered steps", "empty step"))
    assert json.loads(lines[0])["sub_questions"] == ["Who?", "Is #1 tall?"] and len(lines) == 1
    assert write.summary().startswith("1 rows written (1 without their own step numbers), 1 dropped")
