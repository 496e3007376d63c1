"""Both tasks: rendering, typed questions, predictions, and each format of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps, PredictedText
from qdsft.data.readers import scan
from qdsft.data.record import Record
from qdsft.data.task import DecompositionTask, Shown, task_of
from qdsft.errors import UserError
from qdsft.recipe.sections import Prompt

QUESTION = 'Who is older, "Ada" or 보?'
TEXT = "1. How old is Ada?\n2. 보의 나이는?\n3. Is #1 above #2?"
STEPS = Decomposition.parse(TEXT).steps
TASK = task_of(Prompt())
FREE_TEXT = task_of(Prompt(user="{{ article }}", completion="{{ summary }}"))
ROW: dict[str, Any] = {
    "question": "Did A outlive B?",
    "sub_questions": ["When did A die?", "Is #1 late?"],
}


def shown(fmt: str, text: str = TEXT) -> str:
    return TASK.show(fmt, QUESTION, text).text


def written(fmt: str, text: str = TEXT, row: dict[str, Any] | None = None) -> str:
    return TASK.file_entry(fmt, row or {"question": QUESTION}, text, stopped=True)


def test_the_command_line_offers_what_there_is() -> None:
    assert DecompositionTask.formats == ("json", "text", "self-ask", "llamaindex", "dag", "mermaid")


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
    for fmt in DecompositionTask.formats:
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
    assert TASK.dropped_columns("json", row) == {"sub_questions"}
    assert TASK.dropped_columns("dag", row) == {"sub_questions", "id"}


INVALID = "1. a\n2. #7\nthree"


def test_an_invalid_answer_is_kept_where_the_format_can() -> None:
    line = json.loads(written("json", INVALID))
    assert line["text"] == INVALID and len(line["problems"]) == 2
    assert TASK.show("json", QUESTION, INVALID).warning is not None
    assert "three" in shown("text", INVALID)


@pytest.mark.parametrize("fmt", ["self-ask", "llamaindex", "dag", "mermaid"])
def test_and_refused_where_it_cannot(fmt: str) -> None:
    for make in (shown, written):
        with pytest.raises(UserError, match=f"line 'three' is not numbered; this has no {fmt} form"):
            make(fmt, INVALID)


def test_free_text() -> None:
    row = {"article": "It rained.", "output": "old"}
    assert FREE_TEXT.show("json", "x", "y") == Shown('{"input": "x", "output": "y"}')
    assert FREE_TEXT.show("text", "x", "y") == Shown("y")
    line = json.loads(FREE_TEXT.file_entry("json", row, "Rain", stopped=False))
    assert line == {"article": "It rained.", "output": "Rain", "stopped": False}
    assert FREE_TEXT.file_entry("text", row, "Rain", stopped=True) == "Rain\n\n"
    assert FREE_TEXT.dropped_columns("json", row) == {"output"}
    assert FREE_TEXT.problems("1. #7") == () and FREE_TEXT.parse("1. a") == "1. a"
    FREE_TEXT.check_format("text")
    with pytest.raises(UserError, match=r"^--format dag writes decompositions, and this run has .*; use json or text$"):
        FREE_TEXT.check_format("dag")


def test_options_for_decompositions() -> None:
    TASK.require_decompositions("--constrained", "runs/a")
    with pytest.raises(UserError, match=r"^runs/a: its answers are free text, and --constrained is for decomposit"):
        FREE_TEXT.require_decompositions("--constrained", "runs/a")


def test_a_prediction_is_paired_with_the_gold_answer_of_its_row() -> None:
    found = TASK.predict(TASK.example(Record(ROW, "d:1")), INVALID, True)
    assert found == PredictedSteps.parse(ROW["question"], ROW["sub_questions"], INVALID, True, ROW)
    row = {"article": "It rained.", "summary": "Rain."}
    assert FREE_TEXT.predict(FREE_TEXT.example(Record(row, "d:1")), "Wet.", False) == PredictedText(
        "It rained.", "Rain.", "Wet.", False, row
    )


def test_a_typed_question() -> None:
    assert TASK.typed_record(' {"question": "a"} ').row == {"question": '{"question": "a"}'}
    assert FREE_TEXT.typed_record(" It rained. ").row == {"article": "It rained."}
    assert FREE_TEXT.typed_record('{"article": ["turn"], "x": 1}').row == {"article": ["turn"], "x": 1}
    assert FREE_TEXT.typed_record('{"other": 1}').row == {"article": '{"other": 1}'}
    for completion in (None, "{{ c }}"):
        several = task_of(Prompt(user="{{ a }} {{ b }}", completion=completion))
        assert several.typed_record('{"a": 1, "b": 2}').row == {"a": 1, "b": 2}
        with pytest.raises(UserError, match="this run's prompt has the columns a, b; give a JSON object with them"):
            several.typed_record("a")
    with pytest.raises(UserError, match="the question is not UTF-8; check the terminal's encoding"):
        TASK.typed_record("\udcff")


def test_a_row_of_the_decomposition_task_is_validated() -> None:
    bad = Record({"question": "q", "sub_questions": ["#1"]}, "d.jsonl:7")
    assert _refusal(lambda: task_of(Prompt()).completion(bad)) == (
        "d.jsonl:7: sub_questions: step 1 refers to itself (#1); correct or remove the row"
    )


def test_a_completion_of_ones_own_needs_a_user_message_of_ones_own() -> None:
    assert _refusal(lambda: task_of(Prompt(completion="{{ summary }}"))) == (
        "prompt.user is missing: a recipe with its own prompt.completion words its own user message"
    )


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)
