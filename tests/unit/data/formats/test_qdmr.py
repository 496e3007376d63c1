"""QDMR in BREAK's columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from helpers.format_files import QUESTION, RELATIONS, STEPS

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats import READERS, WRITERS
from qdsft.data.formats.write import entry, make_item, render_as
from qdsft.data.record import Record
from qdsft.errors import UserError


def test_qdmr() -> None:
    assert (
        render_as("qdmr", QUESTION, STEPS)
        == "return When did Ada die? ;return When did Bob die? ;return Is #1 after #2?"
    )
    columns = {"question_id": "A_1", "operators": "['select']", "split": "dev", "other": 1}
    item = make_item("qdmr", 'Who,\n"if"?', Decomposition(("a, b",)), columns)
    header, cells = csv.reader(io.StringIO(WRITERS["qdmr"].header + entry("qdmr", item)))
    assert header == ["question_id", "question_text", "decomposition", "operators", "split"]
    assert cells == ["A_1", 'Who, "if"?', "return a, b", "['select']", "dev"]


@pytest.mark.parametrize(
    ("columns", "identity"),
    [({"qid": "q", "id": "i"}, "i"), ({"qid": "q"}, "q"), ({"question_id": 3, "id": "i"}, "3"), ({}, "")],
)
def test_qdmr_names_a_row_by_whatever_id_it_has(columns: dict[str, Any], identity: str) -> None:
    line = entry("qdmr", make_item("qdmr", "q", RELATIONS, columns))
    assert line == f"{identity},q,return Mount Ida >> country ;return #1 >> capital,,\n"


FORMULAS = ["=cmd|'/c calc'!A0", "+1+1", "-2-3", "@SUM(A1)", "'=1", "=", "-x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text_for_a_spreadsheet_and_comes_back(tmp_path: Path, text: str) -> None:
    line = entry("qdmr", make_item("qdmr", text, RELATIONS, {"id": text, "split": text}))
    [cells] = csv.reader(io.StringIO(line))
    assert cells[0] == cells[1] == cells[4] == f"'{text}"
    path = tmp_path / "out.csv"
    path.write_text(WRITERS["qdmr"].header + line, encoding="utf-8")
    [row] = READERS["break"].read(path)
    assert isinstance(row, Record)
    assert (row.row["question"], row.row["question_id"], row.row["split"]) == (text, text, text)


@pytest.mark.parametrize("text", ["-1", "+1.5", "a=b", "'quoted'", "1-2", "한국"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert next(csv.reader(io.StringIO(entry("qdmr", make_item("qdmr", text, RELATIONS, {})))))[1] == text


def test_qdmr_has_no_semicolon_inside_a_step() -> None:
    with pytest.raises(UserError, match=r"^step 2 has a semicolon, which ends a step in QDMR; reword it or remove"):
        render_as("qdmr", "q", Decomposition(("a", "b; c")))
