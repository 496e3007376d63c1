"""Predictions are matched with their gold rows, or an error says what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps
from qdsft.errors import UserError
from qdsft.scoring.read_predictions import read_matched

GOLD = [{"question": f"질문 {n}?", "sub_questions": [f"a{n}?", "#1?"]} for n in range(4)]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("g.jsonl", GOLD)


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read(rows: list[dict[str, Any]]) -> tuple[list[PredictedSteps], str]:
    write("p.jsonl", rows)
    return read_matched(Path("p.jsonl"), Path("g.jsonl"))


def refused(rows: list[dict[str, Any]]) -> str:
    with pytest.raises(UserError) as caught:
        read(rows)
    return str(caught.value)


def test_by_position_where_there_are_no_questions() -> None:
    matched, how = read([{"text": f"1. a{n}?\n2. #1?", "stopped": n > 0} for n in range(4)])
    assert how == "by position"
    assert [row.text for row in matched] == [f"1. a{n}?\n2. #1?" for n in range(4)]
    assert [row.stopped for row in matched] == [False, True, True, True]
    assert [(row.question, list(row.gold)) for row in matched] == [
        (row["question"], row["sub_questions"]) for row in GOLD
    ]


def test_by_position_where_the_questions_that_are_given_agree() -> None:
    rows = [{"sub_questions": ["x"]} | ({"question": " 질문  2?"} if n == 2 else {}) for n in range(4)]
    assert read(rows)[1] == "by position"


def test_answers_of_a_reader_are_one_for_each_step() -> None:
    rows: list[dict[str, Any]] = [{"sub_questions": ["x?", "#1?"]} for _ in range(4)]
    assert [row.reader_answers for row in read([{**rows[0], "reader_answers": ["a", ""]}, *rows[1:]])[0]] == [
        ("a", ""),
        *[None] * 3,
    ]
    for wrong in (["a"], ["a", 1], "ab", {"1": "a", "2": "b"}):
        message = refused([*rows[:3], {**rows[3], "reader_answers": wrong}])
        assert message.startswith("p.jsonl:4: reader_answers must be a list of text, one for each of the 2 steps")


def test_by_question_in_another_order_and_with_others() -> None:
    rows = [{"question": row["question"], "sub_questions": [row["question"]]} for row in reversed(GOLD)]
    matched, how = read(rows)
    assert how == "by question"
    assert [row.answer for row in matched] == [Decomposition((str(row["question"]),)) for row in GOLD]
    matched, how = read([*rows, {"question": "other", "text": "x"}])
    assert (len(matched), how) == (4, "by question, 1 others not used")


def test_equal_gold_questions_share_a_prediction() -> None:
    write("g.jsonl", [*GOLD, GOLD[0]])
    matched, _ = read([{"question": row["question"], "text": f"1. {row['question']}"} for row in GOLD])
    assert matched[4].text == matched[0].text == "1. 질문 0?"


def test_our_own_predictions_can_be_scored_again() -> None:
    # The text is what tells whether the answer was a numbered list; steps that are not its own come first.
    row = {"question": "질문 0?", "sub_questions": ["a", "b"], "text": "1. a\nb", "stopped": True}
    assert read([row, *GOLD[1:]])[0][0].text == "1. a\nb"
    assert read([{**row, "text": "Let me think."}, *GOLD[1:]])[0][0].answer == Decomposition(("a", "b"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "x"}],
            "p.jsonl:1: there is no question to match by, and p.jsonl and g.jsonl differ in their rows (1 and 4); add "
            "the field 'question', or give one row for each",
        ),
        (
            GOLD[:2],
            'p.jsonl: no prediction for "질문 2?" (g.jsonl:3), "질문 3?" (g.jsonl:4); add them, or leave them out of '
            "g.jsonl",
        ),
        (
            [*GOLD, GOLD[1]],
            'p.jsonl:5: the question "질문 1?" was answered before, in p.jsonl:2; remove one of them',
        ),
        (
            [{"question": "질문 0?"}],
            "p.jsonl:1: a prediction must have sub_questions, a list of text, or text; text is null",
        ),
        (
            [{"sub_questions": ["a", 1]}],
            'p.jsonl:1: a prediction must have sub_questions, a list of text, or text; sub_questions is ["a", 1]',
        ),
        ([{"question": 7, "text": "x"}], "p.jsonl:1: question must be text, not 7"),
        (
            [{"text": "x", "stopped": 1}] * 4,
            "p.jsonl:1: stopped must be true or false, not 1",
        ),
    ],
)
def test_mismatches_are_named(rows: list[dict[str, Any]], message: str) -> None:
    assert refused(rows) == message


def test_many_missing_are_counted() -> None:
    write("g.jsonl", [{**GOLD[0], "question": f"q{n}"} for n in range(9)])
    assert '"q2" (g.jsonl:3) and 6 more; add them' in refused([{"question": "other", "text": "x"}])


def test_a_bad_gold_row_and_a_missing_file_are_named() -> None:
    write("g.jsonl", [GOLD[0], {"question": "q", "sub_questions": ["#4"]}])
    assert refused([GOLD[0]]).startswith("g.jsonl:2: sub_questions: step 1 refers to #4")
    with pytest.raises(UserError, match=r"^nope: No such file"):
        read_matched(Path("nope"), Path("g.jsonl"))


BREAK = """question_id,question_text,decomposition
ATIS_1,how many  cubes,return cubes ;return number of #1
A_2,x,return y
"""


def test_break_by_position() -> None:
    Path("g.csv").write_text(BREAK, encoding="utf-8")
    Path("p.csv").write_text('decomposition\n"return cubes; return #1"\ny\n', encoding="utf-8")
    matched, how = read_matched(Path("p.csv"), Path("g.csv"))
    assert how == "by position"
    assert matched[0].question == "how many  cubes" and matched[0].columns["question_id"] == "ATIS_1"
    assert (matched[0].gold, matched[0].answer) == ((" cubes", " number of #1"), Decomposition((" cubes", " #1")))


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("decomposition\ny\n", "p.csv has 1 rows and g.csv has 2; BREAK's predictions are matched by position: give"),
        ("steps\nx\ny\n", "p.csv:2: the field 'decomposition' must be text; this row has steps"),
        (
            "question_id,decomposition\nA_2,y\nATIS_1,x\n",
            'p.csv:2: question_id is "A_2", but g.csv:2 has "ATIS_1"; put the rows into the same order',
        ),
    ],
)
def test_break_that_does_not_match_is_named(predictions: str, message: str) -> None:
    Path("g.csv").write_text(BREAK, encoding="utf-8")
    Path("p.csv").write_text(predictions, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_matched(Path("p.csv"), Path("g.csv"))
    assert str(caught.value).startswith(message)
