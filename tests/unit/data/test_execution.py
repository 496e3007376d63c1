"""Steps answered in the order of their references, at the same time where they may be, within their time."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from helpers.paths import ROOT

import qdsft
from qdsft.data.decomposition import Decomposition
from qdsft.data.execution import Execution
from qdsft.errors import UserError

PARALLEL = ("How old is Ada?", "How old is Bo?", "Is #1 above #2?")


def chain(length: int) -> list[str]:
    return ["Step 1?", *(f"After #{number - 1}?" for number in range(2, length + 1))]


def test_answers_take_the_place_of_references() -> None:
    answers = {"How old is Ada?": "40", "How old is Bo?": "30", "Is 40 above 30?": "yes"}
    found = qdsft.execute(Decomposition(PARALLEL), answers.__getitem__)
    assert isinstance(found, Execution) and (found.answer, found.errors) == ("yes", ())
    assert [(one.number, one.step, one.asked, one.answer) for one in found.steps] == [
        (1, PARALLEL[0], "How old is Ada?", "40"),
        (2, PARALLEL[1], "How old is Bo?", "30"),
        (3, PARALLEL[2], "Is 40 above 30?", "yes"),
    ]
    first, _, last = found.steps
    assert first.started is not None and last.started is not None
    assert last.started >= first.started + first.seconds


def test_particles_fit_the_answers() -> None:
    steps = ["저자는 누구인가요?", "#1이 태어난 도시는 어디인가요?"]
    found = qdsft.execute(steps, {steps[0]: "미라", "미라가 태어난 도시는 어디인가요?": "케트라"}.__getitem__)
    assert found.answer == "케트라"


def test_independent_steps_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def answer(asked: str) -> str:
        if "above" not in asked:
            both.wait()  # passes only if both steps wait here
        return "40"

    assert qdsft.execute(PARALLEL, answer).errors == ()


def test_each_call_has_the_context_of_the_caller() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    token = user.set("Ada")

    def answer(asked: str) -> str:
        seen = user.get()
        user.set(asked)  # is not seen by another step
        return seen

    assert [one.answer for one in qdsft.execute(PARALLEL, answer).steps] == ["Ada"] * 3
    assert user.get() == "Ada"
    user.reset(token)


def test_no_more_workers_run_than_were_asked_for() -> None:
    running, most = [0], [0]
    lock = threading.Lock()

    def answer(_: str) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return "x"

    for workers in (1, 3):
        most[0] = 0
        qdsft.execute([f"Step {number}?" for number in range(9)], answer, workers=workers)
        assert most[0] == workers


def test_a_long_chain_is_answered_in_order() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return str(len(asked))

    assert qdsft.execute(chain(200), answer).answer == "200"
    assert asked[:3] == ["Step 1?", "After 1?", "After 2?"]


def test_many_steps_keep_their_numbers() -> None:
    steps = [f"s{n}" for n in range(1, 11)] + ["#1 and #10", "#11"]
    assert [one.answer for one in qdsft.execute(steps, lambda asked: f"<{asked}>").steps[-2:]] == [
        "<<s1> and <s10>>",
        "<<<s1> and <s10>>>",
    ]


def planted(fault: str) -> Callable[[str], str]:
    def answer(asked: str) -> str:
        if "Bo" in asked:
            if fault == "slow":
                time.sleep(5)
            raise ValueError("no such person")
        return "40"

    return answer


@pytest.mark.parametrize(
    ("fault", "limits", "errors"),
    [
        ("raises", {}, ["step 2: ValueError: no such person", "step 3: not asked, because step 2 has no answer"]),
        ("slow", {"step_timeout": 0.05}, ["step 2: no answer after 0.05 s", "step 3: not asked, because step 2"]),
        ("slow", {"timeout": 0.05}, ["step 2: no time was left", "step 3: no time was left"]),
        ("slow", {"timeout": 0.05, "workers": 1}, ["step 2: no time was left", "step 3: no time was left"]),
    ],
)
def test_a_failed_step_is_in_the_trace(fault: str, limits: dict[str, float], errors: list[str]) -> None:
    begun = time.monotonic()
    found = qdsft.execute(PARALLEL, planted(fault), **limits)  # type: ignore[arg-type]
    assert time.monotonic() - begun < 3
    assert found.answer is None and found.steps[0].answer == "40" and found.steps[2].asked is None
    assert len(found.errors) == len(errors)
    assert all(error.startswith(expected) for error, expected in zip(found.errors, errors, strict=True))


def test_a_late_answer_is_ignored() -> None:
    def answer(asked: str) -> str:
        time.sleep(0.2 if "Ada" in asked else 0.11)  # the third step still runs when the first one answers
        return "30"

    found = qdsft.execute([*PARALLEL[:2], "Is #2 above 3?"], answer, step_timeout=0.15)
    assert found.steps[0].answer is None and found.steps[0].error == "no answer after 0.15 s"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "there are no steps; this cannot be executed"),
        (["Is #2 it?", "Who?"], "step 1 refers forward to #2"),
        (["Is #1 it?"], "step 1 refers to itself"),
        (["Who?", " "], "step 2 is empty"),
    ],
)
def test_what_is_not_valid_is_refused(steps: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        qdsft.execute(steps, lambda asked: "x")
    with pytest.raises(UserError, match="workers is 0"):
        qdsft.execute(["Who?"], lambda asked: "x", workers=0)


def test_a_call_that_hangs_does_not_keep_the_interpreter_from_ending() -> None:
    code = "import qdsft, time; print(qdsft.execute(['Who?'], lambda _: time.sleep(60), step_timeout=0.05).errors)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0 and "no answer after 0.05 s" in done.stdout
