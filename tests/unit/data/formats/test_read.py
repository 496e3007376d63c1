"""Other projects' files as rows: every column kept, whatever cannot be read named in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.format_files import found, the_row

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


def test_strategyqa_keeps_its_columns(tmp_path: Path) -> None:
    row = {"qid": "1", "answer": False, "facts": ["x  y"], "question": " Is it\nlate?", "decomposition": ["Is  it?"]}
    assert the_row("strategyqa", tmp_path / "s.json", [row]) == {
        "question": "Is it late?",
        "sub_questions": ["Is it?"],
        "qid": "1",
        "answer": False,
        "facts": ["x  y"],
    }


@pytest.mark.parametrize(
    ("source_format", "row", "message"),
    [
        (
            "strategyqa",
            {"question": "q", "sub_questions": []},
            "the field 'decomposition' is missing; this row has que",
        ),
        ("strategyqa", {"decomposition": []}, "the field 'question' is missing; this row has decomposition: is it of"),
        ("strategyqa", {}, "the field 'decomposition' is missing; this row has no fields: is it of another format?"),
        ("strategyqa", "x", 'a row must be an object with fields, not "x"'),
        (
            "strategyqa",
            {"question": "q", "decomposition": ["a"], "sub_questions": ["b"]},
            "the row has a field 'sub_questions' already, which is made from 'question'; rename or remove it",
        ),
        ("break", {"question_text": "q", "decomposition": ["a"]}, 'decomposition must be text, not ["a"]'),
        (
            "break",
            {"question_text": "q", "question": "r", "decomposition": "return a"},
            "the row has a field 'question' already, which is made from 'question_text'; rename or remove it",
        ),
        ("musique", {"id": "1", "question": "q"}, "the field 'question_decomposition' is missing; this row has id, qu"),
        ("musique", {"question": "q", "question_decomposition": ["a"]}, "question_decomposition must be a list of obj"),
        ("musique", {"question": "q", "question_decomposition": [{}]}, "question_decomposition must be a list of obj"),
        ("musique", {"question": "q", "question_decomposition": None}, "question_decomposition must be a list of obj"),
    ],
)
def test_a_row_of_another_shape_is_named_and_hides_nothing(
    tmp_path: Path, source_format: str, row: Any, message: str
) -> None:
    good = {
        "strategyqa": {"question": "q", "decomposition": ["a"]},
        "break": {"question_text": "q", "decomposition": "return a"},
        "musique": MUSIQUE,
    }[source_format]
    fault, behind = found(source_format, tmp_path / "rows.jsonl", f"{json.dumps(row)}\n{json.dumps(good)}\n")
    assert isinstance(fault, RowError) and fault.source == f"{tmp_path}/rows.jsonl:1"
    assert fault.message.startswith(message)
    assert isinstance(behind, Record) and behind.source == f"{tmp_path}/rows.jsonl:2"


@pytest.mark.parametrize("steps", ["a", None, ["a", 7]])
def test_steps_of_a_wrong_type_are_left_for_the_check_of_rows(tmp_path: Path, steps: Any) -> None:
    [record] = found("strategyqa", tmp_path / "s.json", [{"question": "q", "decomposition": steps}])
    assert isinstance(record, Record)
    assert [fault.kind for fault in faults(record)] == ["sub_questions not a list of text"]


def test_our_own_rows_are_read_as_they_are(tmp_path: Path) -> None:
    row = {"question": "a  b", "sub_questions": ["c\nd"], "x": 1}
    assert the_row("jsonl", tmp_path / "r.json", [row]) == row
    assert the_row("csv", tmp_path / "r.csv", 'question,sub_questions\nq,"a\nb"\n') == {
        "question": "q",
        "sub_questions": ["a", "b"],
    }


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
