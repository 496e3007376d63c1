"""MuSiQue's JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.data.formats import READERS
from qdsft.data.record import Record, RowError
from qdsft.data.validation import faults

MUSIQUE: dict[str, Any] = {
    "id": "2hop__1_2",
    "paragraphs": [{"idx": 0, "title": "Mount Ida", "paragraph_text": "...", "is_supporting": True}],
    "question": "What is the capital of the country with Mount  Ida?",
    "question_decomposition": [
        {"id": 1, "question": "Mount Ida >> country", "answer": "Turkey", "paragraph_support_idx": 0},
        {"id": 2, "question": "#1  >> capital", "answer": "Ankara", "paragraph_support_idx": None},
    ],
    "answer": "Ankara",
    "answerable": True,
}


def found(source_format: str, path: Path, content: Any) -> list[Record | RowError]:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return list(READERS[source_format].read(path))


def the_row(source_format: str, path: Path, content: Any) -> dict[str, Any]:
    [record] = found(source_format, path, content)
    assert isinstance(record, Record), record
    return record.row


def test_musique_keeps_relations_as_they_are_and_the_answers_of_steps(tmp_path: Path) -> None:
    row = the_row("musique", tmp_path / "m.jsonl", MUSIQUE)
    assert row == {
        **MUSIQUE,
        "question": "What is the capital of the country with Mount Ida?",
        "sub_questions": ["Mount Ida >> country", "#1 >> capital"],
        "step_answers": ["Turkey", "Ankara"],
    }


def test_musique_without_an_answer_to_a_step(tmp_path: Path) -> None:
    steps = [{"question": "who is #1 most listened to on spotify"}]
    [record] = found("musique", tmp_path / "m.jsonl", {**MUSIQUE, "question_decomposition": steps})
    assert isinstance(record, Record) and record.row["step_answers"] == [None]
    assert [fault.kind for fault in faults(record)] == ["self reference"]
