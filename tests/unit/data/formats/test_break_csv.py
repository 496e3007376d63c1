"""BREAK's CSV: the official parse for metrics, and the rows to train on."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.format_files import found, the_row

from qdsft.data.formats.break_csv import break_steps
from qdsft.data.record import Record, RowError

HEADER = "question_id,question_text,decomposition,operators,split\n"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("return cubes ;return number of  #1", [" cubes", " number of #1"]),
        ("cubes ; #1 that are blue", ["cubes", "#1 that are blue"]),
        ("return\tflights\n ;return #1 returned", [" flights", " #1 ed"]),
        ("return a ;return b;", [" a", " b", ""]),
        ("", [""]),
        ("return", [""]),
    ],
)
def test_break_steps_of_the_official_evaluator(text: str, steps: list[str]) -> None:
    assert break_steps(text) == steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("return cubes ;return number of  #1", ["cubes", "number of #1"]),
        ("return flights ;return #1 returned to returning", ["flights", "#1 returned to returning"]),
        ("return return trips ;returned #1", ["return trips", "returned #1"]),
        ("return return", ["return"]),
        ("cubes;#1 that are blue", ["cubes", "#1 that are blue"]),
        ("return a ;return ;return b", ["a", "", "b"]),
        ("return a ;return b;", ["a", "b", ""]),
    ],
)
def test_steps_to_train_on_lose_the_one_return_before_them(tmp_path: Path, text: str, steps: list[str]) -> None:
    assert the_row("break", tmp_path / "b.csv", f"{HEADER}a,q,{text},,\n")["sub_questions"] == steps


def test_break_keeps_its_columns_and_leaves_out_empty_cells(tmp_path: Path) -> None:
    operators = "['select', 'filter']"
    line = f'ATIS_dev_0,what  flights ?,return flights ;return #1 from  denver,"{operators}",\n'
    assert the_row("break", tmp_path / "b.csv", HEADER + line) == {
        "question": "what flights ?",
        "sub_questions": ["flights", "#1 from denver"],
        "question_id": "ATIS_dev_0",
        "operators": operators,
    }


def test_a_reference_that_break_lost_is_named_and_hides_nothing(tmp_path: Path) -> None:
    text = f"{HEADER}a,q,return a,,\nb,q,return a ;return #REF of b,,\nc,q,return C# 4 books,,\n"
    first, fault, last = found("break", tmp_path / "b.csv", text)
    assert isinstance(first, Record) and isinstance(last, Record)
    assert isinstance(fault, RowError) and (fault.source, fault.kind) == (f"{tmp_path}/b.csv:3", "broken reference")
    assert fault.message == "decomposition: '#REF' is a reference without its number; correct or remove the row"
