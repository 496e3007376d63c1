"""Each format is read back to what the model wrote, and an answer that has no such form is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.data.decomposition import Decomposition
from qdsft.data.readers import scan
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.inference.answer_formats import FORMATS, check_format, file_entry, replaced, show_answer

QUESTION = 'Who is older, "Ada" or 보?'
TEXT = "1. How old is Ada?\n2. 보의 나이는?\n3. Is #1 above #2?"
STEPS = Decomposition.parse(TEXT).steps


def shown(fmt: str, text: str = TEXT) -> str:
    return show_answer(fmt, QUESTION, text, decomposition=True)[0]


def written(fmt: str, text: str = TEXT, row: dict[str, Any] | None = None) -> str:
    return file_entry(fmt, row or {"question": QUESTION}, text, stopped=True, decomposition=True)


def test_the_command_line_offers_what_there_is() -> None:
    assert FORMATS == ("json", "text", "self-ask", "llamaindex", "dag", "mermaid")


def test_one_question_round_trip() -> None:
    assert json.loads(shown("json")) == {"question": QUESTION, "sub_questions": list(STEPS), "valid": True}
    assert Decomposition.parse(shown("text")).steps == STEPS
    follow_ups = [line for line in shown("self-ask").splitlines() if line.startswith("Follow up: ")]
    assert [line.removeprefix("Follow up: ") for line in follow_ups] == list(STEPS)
    assert [item["sub_question"] for item in json.loads(shown("llamaindex"))["items"]][:2] == list(STEPS[:2])
    dag = json.loads(shown("dag"))
    assert [node["text"] for node in dag["nodes"]] == list(STEPS)
    assert [(edge["source"], edge["target"]) for edge in dag["edges"]] == [(1, 3), (2, 3)]
    assert shown("mermaid").startswith("flowchart TD\n") and "step1 --> step3" in shown("mermaid")


def test_a_file_in_each_format_holds_every_answer(tmp_path: Path) -> None:
    for fmt in FORMATS:
        text = "".join(written(fmt) for _ in range(3))
        if fmt in {"json", "self-ask", "llamaindex", "dag"}:
            rows = [json.loads(line) for line in text.splitlines()]
            assert [row["question"] for row in rows] == [QUESTION] * 3
        elif fmt == "text":
            blocks = text.removesuffix("\n\n").split("\n\n")
            assert [block.split("\n", 1) for block in blocks] == [[QUESTION, TEXT]] * 3
        else:
            assert text.count("```mermaid\n") == 3


def test_json_rows_are_rows_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(written("json", row={"question": QUESTION, "id": 7}), encoding="utf-8")
    (row,) = scan(path)
    assert isinstance(row, Record)
    own = {"question": QUESTION, "sub_questions": list(STEPS), "problems": [], "text": TEXT, "stopped": True}
    assert row.row == {**own, "id": 7}


def test_own_columns_win_and_the_others_are_named() -> None:
    row = {"question": QUESTION, "sub_questions": ["gold"], "id": 7}
    assert json.loads(written("json", row=row))["sub_questions"] == list(STEPS)
    assert replaced("json", row, decomposition=True) == {"sub_questions"}
    assert replaced("dag", row, decomposition=True) == {"sub_questions", "id"}


INVALID = "1. a\n2. #7\nthree"


def test_an_invalid_answer_is_kept_where_the_format_can() -> None:
    line = json.loads(written("json", INVALID))
    assert line["text"] == INVALID and len(line["problems"]) == 2
    assert show_answer("json", QUESTION, INVALID, decomposition=True)[1] is not None
    assert "three" in shown("text", INVALID)


@pytest.mark.parametrize("fmt", ["self-ask", "llamaindex", "dag", "mermaid"])
def test_and_refused_where_it_cannot(fmt: str) -> None:
    for make in (shown, written):
        with pytest.raises(UserError, match=f"line 'three' is not numbered; this has no {fmt} form"):
            make(fmt, INVALID)


def test_other_tasks() -> None:
    row = {"article": "It rained.", "output": "old"}
    assert show_answer("json", "x", "y", decomposition=False) == ('{"input": "x", "output": "y"}', None)
    assert show_answer("text", "x", "y", decomposition=False) == ("y", None)
    line = json.loads(file_entry("json", row, "Rain", stopped=False, decomposition=False))
    assert line == {"article": "It rained.", "output": "Rain", "stopped": False}
    assert file_entry("text", row, "Rain", stopped=True, decomposition=False) == "Rain\n\n"
    assert replaced("json", row, decomposition=False) == {"output"}
    check_format("text", decomposition=False)
    with pytest.raises(UserError, match=r"^--format dag writes decompositions, and this run has"):
        check_format("dag", decomposition=False)
