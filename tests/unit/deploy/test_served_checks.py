"""Each check gives the right verdict, and says what differs, at and around its limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.data.task import DecompositionTask
from qdsft.deploy.endpoint import ServedAnswer
from qdsft.deploy.served_checks import (
    Expected,
    Replay,
    check_answers,
    check_prompt_ids,
    check_sampling,
    check_scores,
    check_stop,
    check_validity,
)
from qdsft.recipe.sections import Prompt

TASK = DecompositionTask(Prompt())
IDS = (1, 5, 6, 7, 8)
TEXT = "1. Who is Ada?\n2. How old is #1?"
EXAMPLE = Example(
    Record({"question": "How old is Ada?", "sub_questions": ["Who is Ada?", "How old is #1?"]}, "row"),
    ({"role": "user", "content": "How old is Ada?"},),
    TEXT,
)
CLEAN = Replay(
    "row", EXAMPLE.messages, IDS, Expected(TEXT, True), EXAMPLE, IDS, ServedAnswer(TEXT, True, 5), ServedAnswer(TEXT)
)


def replays(wrong: int, change: Replay, count: int = 10) -> list[Replay]:
    return [replace(change if i < wrong else CLEAN, name=f"row {i}") for i in range(count)]


def served(text: str, *, stopped: bool | None = True) -> Replay:
    return replace(CLEAN, served=ServedAnswer(text, stopped, 5))


def test_clean_replies_pass_every_check() -> None:
    clean = replays(0, CLEAN)
    checks = [check_prompt_ids(clean), check_sampling(clean), check_answers(clean, 1.0), check_stop(clean)]
    checks += [check_validity(clean, TASK), check_scores(clean, TASK)]
    assert {check.verdict for check in checks} == {"passed"}
    assert checks[-1].scores["exact_match"].interval == (0.0, 0.0)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ((1, 1, 5, 6, 7, 8), "second BOS"),
        ((5, 6, 7, 8), "the first token, 1, is missing"),
        ((6, 7, 8), "truncated from 5 to 3"),
        ((1, 5), "truncated from 5 to 2"),
        ((1, 5, 9, 7, 8), "token 2 is 9, and 6 in training"),
        ((1, 5, 6, 7, 8, 9), "6 tokens, and 5 in training"),
        ((), "truncated from 5 to 0"),
    ],
)
def test_a_difference_of_ids_is_named(ids: tuple[int, ...], said: str) -> None:
    check = check_prompt_ids(replays(1, replace(CLEAN, served_ids=ids)))
    assert (check.verdict, check.different) == ("failed", 1) and said in check.detail


def test_a_number_of_tokens_is_compared_too() -> None:
    fewer = replace(CLEAN, served=ServedAnswer(TEXT, True, 4))
    assert check_prompt_ids([fewer]).verdict == "failed"  # right ids, and a generation from another prompt
    assert check_prompt_ids([replace(CLEAN, served_ids=None)]).verdict == "passed"
    unknown = replace(CLEAN, served_ids=None, served=ServedAnswer(TEXT, True))
    assert check_prompt_ids([unknown]).verdict == "not checked"
    assert check_prompt_ids([unknown, fewer]).verdict == "failed"


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "passed"), (1, "differs"), (2, "failed"), (10, "failed")])
def test_limits_of_sampling_stop_and_validity(wrong: int, verdict: str) -> None:
    changed = replace(CLEAN, again=ServedAnswer("1. Else?"))
    assert check_sampling(replays(wrong, changed)).verdict == verdict
    for one in (served("1. Who is Ada?"), served(TEXT + "\n3. Why?"), served(TEXT, stopped=False), served("")):
        assert check_stop(replays(wrong, one)).verdict == verdict
    assert check_validity(replays(wrong, served("no list")), TASK).verdict == verdict


def test_of_few_answers_none_may_differ() -> None:
    assert check_stop(replays(1, served(""), count=4)).verdict == "failed"
    assert check_stop(replays(1, served(""), count=5)).verdict == "differs"


@pytest.mark.parametrize(("wrong", "limit", "verdict"), [(5, 0.5, "differs"), (6, 0.5, "failed"), (2, 0.9, "failed")])
def test_limit_of_answers(wrong: int, limit: float, verdict: str) -> None:
    assert check_answers(replays(wrong, served("1. Else?")), limit).verdict == verdict


def test_an_unknown_reason_to_stop_is_no_difference() -> None:
    assert check_stop(replays(10, served(TEXT, stopped=None))).verdict == "passed"
    assert check_stop([replace(one, expected=Expected(TEXT, None)) for one in replays(0, CLEAN)]).verdict == "passed"


def test_scores_fail_if_they_fall_and_not_if_they_rise() -> None:
    fallen = check_scores(replays(10, served("1. Else?")), TASK)
    assert fallen.verdict == "failed" and fallen.scores["exact_match"].difference == -1.0
    low, high = check_scores(replays(1, served("1. Else?"), count=30), TASK).scores["exact_match"].interval
    assert low < 0 <= high
    better = [replace(one, expected=Expected("1. Else?", True)) for one in replays(0, CLEAN)]
    assert check_scores(better, TASK).verdict == "differs"


def test_prompts_without_an_expected_answer_are_not_compared() -> None:
    golden = [replace(CLEAN, expected=None, example=None, again=None)]
    for check in (check_answers(golden, 0.5), check_stop(golden), check_validity(golden, TASK)):
        assert check.verdict == "not checked" and check.compared == 0
    assert check_scores(golden, TASK).verdict == check_sampling(golden).verdict == "not checked"
