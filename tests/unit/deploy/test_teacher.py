"""An answer with a fault is refused for that fault, and the answer that agrees most becomes the row."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.teacher_faults import TEXTS

from qdsft.data.decomposition import Decomposition, numbered
from qdsft.data.prompt import TEACHER
from qdsft.data.record import Record, RowError
from qdsft.deploy.teacher import Sample, Teacher, choose, usable_steps

QUESTION = "Which films star Pavel Dorn and were directed by the founder of Umbrix?"
STEPS = ("Who founded Umbrix?", "Which films were directed by #1?", "Which of #2 star Pavel Dorn?")
RECORD = Record({"question": QUESTION, "id": 7, "sub_questions": ["old"], "step_answers": ["x"]}, "q.jsonl:3")
LEADER = Teacher("m", samples=3)

REASONS = {
    **dict.fromkeys(("nothing", "white space"), "there are no steps"),
    **dict.fromkeys(
        ("prose", "a polite beginning", "a polite end", "a code fence", "JSON", "bullets", "brackets", "markdown"),
        "is not numbered",
    ),
    "numbered twice": "own numbers",
    **dict.fromkeys(("numbered from 0", "a number left out"), "stands where step"),
    **dict.fromkeys(("the answers, too", "unfinished thoughts"), "is not numbered"),
    "thoughts in a step": "special token",
    "reference to a missing step": "refers to #9",
    "reference to a huge step": "refers to #1000000000",
    "reference to itself": "refers to itself",
    "reference forward": "refers forward",
    "an empty step": "is empty",
    "one step": "one step only",
    **dict.fromkeys(("a repeated step", "an unused step"), "repeats step"),
    "two questions in a step": "asks two questions",
    "another language": "is in Hangul",
    "lost characters": "U+FFFD",
    "an escape sequence": "control character U+001B",
    "a NUL": "control character U+0000",
    "a C1 control": "control character U+009B",
    "a right-to-left override": "invisible character U+202E",
    "a zero-width space": "invisible character U+200B",
    "invisible tags": "invisible character U+E0041",
    "a line separator": "invisible character U+2028",
    "a private character": "invisible character U+E000",
    **dict.fromkeys(
        ("</s>", "<|im_end|>", "<｜end▁of▁sentence｜>", "[|endofturn|]", "[INST]", "<start_of_turn>", "<<SYS>>"),
        "special token",
    ),
    "an advert": "share no words",
    "many steps": "no later step uses",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_fault_is_named(kind: str) -> None:
    found = usable_steps(RECORD, Sample(TEXTS[kind](STEPS)))
    assert isinstance(found, RowError) and REASONS[kind] in found.message


def test_each_planted_text_has_a_reason() -> None:
    assert TEXTS.keys() - REASONS.keys() == {"the token"}  # the client refuses that one


@pytest.mark.parametrize("question", [QUESTION, QUESTION.replace("Dorn", "D\u200born")])
def test_right_steps_are_usable(question: str) -> None:
    steps = tuple(step.replace("Dorn", "D\u200born") if "\u200b" in question else step for step in STEPS)
    record = Record({"question": question}, "q")
    for text in (numbered(steps), f"<think>#9\n</think>\n{numbered(steps)}\n"):
        for stopped in (True, None):
            assert usable_steps(record, Sample(text, stopped=stopped)) == steps


def test_a_reply_without_an_answer_and_one_that_is_cut_off_are_not_used() -> None:
    for sample, message in (
        (Sample(None, "status 400"), "status 400"),
        (Sample(numbered(STEPS), "", False), "cut off"),
    ):
        found = usable_steps(RECORD, sample)
        assert isinstance(found, RowError) and message in found.message


def chosen(*answers: tuple[str, ...] | str, least: float = 0.6) -> dict[str, Any] | RowError:
    texts = [answer if isinstance(answer, str) else numbered(answer) for answer in answers]
    return choose(RECORD, [Sample(text) for text in texts], LEADER, least)


def test_the_row_has_its_columns_and_its_origin() -> None:
    row = chosen(STEPS, STEPS, "no", least=0.5)
    assert isinstance(row, dict)
    origin = row.pop("provenance")
    assert row == {"question": QUESTION, "id": 7, "sub_questions": list(STEPS)}
    assert len(origin.pop("prompt")) == 16
    assert origin == {"model": "m", "answers": 3, "usable": 2, "agreement": 0.5}


def test_the_same_steps_in_another_order_agree() -> None:
    other = ("Which films star Pavel Dorn?", "Who founded Umbrix?", "Which of #1 were directed by #2?")
    moved = ("Who founded Umbrix?", "Which films star Pavel Dorn?", "Which of #2 were directed by #1?")
    row = chosen(other, moved, STEPS)
    assert isinstance(row, dict) and row["sub_questions"] == list(other) and row["provenance"]["agreement"] > 0.7


def test_of_equal_answers_the_shortest_is_taken() -> None:
    longer = ("Who is the founder of Umbrix?", *STEPS[1:])
    row = chosen(longer, STEPS)
    assert isinstance(row, dict) and row["sub_questions"] == list(longer)  # as many steps: the first
    split = (
        "Who founded Umbrix?",
        "Which films are there?",
        "Which of #2 were directed by #1?",
        "Which of #3 star Pavel Dorn?",
    )
    row = chosen(split, STEPS, least=0.1)
    assert isinstance(row, dict) and row["sub_questions"] == list(STEPS)


@pytest.mark.parametrize(
    ("answers", "kind", "message"),
    [
        (("no", "no", "no"), "no usable answer", "none of 3 answers is usable; line 'no' is not numbered"),
        ((STEPS, "no", "no"), "low agreement", "1 of 3 answers are usable and their agreement is 0.00, less than 0.6"),
        ((STEPS, STEPS, "no"), "low agreement", "2 of 3 answers are usable and their agreement is 0.50"),
    ],
)
def test_a_question_is_dropped_with_its_reason(answers: tuple[Any, ...], kind: str, message: str) -> None:
    found = chosen(*answers)
    assert isinstance(found, RowError) and found.kind == kind and found.message.startswith(message)


def test_fields_of_the_request() -> None:
    messages = [{"role": "user", "content": "q"}]
    assert Teacher("m").body(messages) == {"model": "m", "messages": messages, "max_tokens": 512, "temperature": 0.7}
    changed = Teacher("m", extra={"max_tokens": None, "seed": 1, "temperature": 0})
    assert changed.body(messages) == {"model": "m", "messages": messages, "seed": 1, "temperature": 0}


def test_the_examples_of_the_default_prompt_are_right() -> None:
    examples = TEACHER.split("Question: ")[1:-1]
    assert len(examples) == 3
    for example in examples:
        question, answer = example.split("\n", 1)
        assert usable_steps(Record({"question": question}, ""), Sample(answer)) == Decomposition.parse(answer).steps
