"""The best sample of a question, what must not be trained on, and the sentence about the result."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.data.prediction import PredictedSteps
from qdsft.metrics.scores import Scores
from qdsft.scoring.compare import Difference
from qdsft.scoring.improvement import Goal, Keep, choose, improved_row, usable_steps, verdict

ROW: dict[str, Any] = {
    "question": "Who is older?",
    "sub_questions": ["weak", "long"],
    "step_answers": ["a", "b"],
    "mine": 1,
}


def goal(keep: Keep = "better") -> Goal:
    """Score steps by their words: a row with `unknown` has no score."""

    def score(row: PredictedSteps) -> Scores:
        text = " ".join(row.answer.steps)
        found = None if "unknown" in row.columns else float("good" in text)
        return {"all": found, "some": found if found is None else 0.5 * ("fair" in text) + 0.5 * found}

    return Goal(score, ("all", "some"), keep)


@pytest.mark.parametrize(
    ("samples", "chosen"),
    [
        ([("good",), ("weak",)], 0),
        ([("fair",), ("good", "good one")], 1),  # the first metric decides
        ([("weak",), ("fair", "step")], 1),  # then the second
        ([("good", "two"), ("good",)], 1),  # fewer steps
        ([("good and long",), ("good",)], 1),  # then the shorter text
        ([("good",), ("good",)], 0),  # duplicates: the first
        ([None, ("good",)], 1),
        ([("weak",), ("short",)], None),  # as good as the row, and shorter
        ([None, None], None),
        ([], None),
    ],
)
def test_a_better_sample_replaces_the_steps(samples: list[tuple[str, ...] | None], chosen: int | None) -> None:
    found = choose(goal(), ROW, samples)
    steps = samples[chosen] if chosen is not None else ("weak", "long")
    assert (found.sample, found.steps) == (chosen, steps)


@pytest.mark.parametrize(
    ("samples", "chosen"),
    [
        ([("short",), ("a", "b")], 0),
        ([("a", "b")], 0),
        ([("a", "b", "c")], None),  # as good, and longer
        ([("weak", "long")], None),  # the steps of the row
        ([("short",), ("good", "x", "y")], 1),
    ],
)
def test_equal_samples_replace_the_steps_if_they_may(samples: list[tuple[str, ...] | None], chosen: int | None) -> None:
    assert choose(goal("equal"), ROW, samples).sample == chosen


def test_a_row_without_a_score_keeps_its_steps() -> None:
    row = {**ROW, "unknown": True}
    assert choose(goal("equal"), row, [("good",)]).sample is None
    assert not goal("equal").can_be_improved(None)


def test_a_row_with_the_best_score_is_not_sampled() -> None:
    best = {**ROW, "sub_questions": ["good fair"]}
    own = goal().of(best, best["sub_questions"])
    assert own == (1.0, 1.0)
    assert (goal().can_be_improved(own), goal("equal").can_be_improved(own)) == (False, True)


@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        ("1. How old is A?\n2. Is #1", False),
        ("How old is A?", True),
        ("1. How old is A?\n3. How old is B?", True),
        ("1. Is #2 older?\n2. Who is A?", True),
        ("1. Is #1 older?", True),
        ("1. Who is A?\n2. who is  a?", True),
        ("1. WHO is older?", True),
        ("1. 1. Who?\n2. 2. Whom?", True),
        ("1. A\x07?", True),
        ("", True),
    ],
)
def test_a_sample_that_must_not_be_trained_on(text: str, stopped: bool) -> None:
    assert usable_steps("Who is older?", text, stopped) is None


def test_a_usable_sample() -> None:
    assert usable_steps("Who is older?", "1. Who is A?\n2. How old is #1?", True) == ("Who is A?", "How old is #1?")


def test_columns_about_the_old_steps_are_left_out() -> None:
    better = improved_row(ROW, choose(goal(), ROW, [("good",)]), {"row": "f:1"})
    assert (better["sub_questions"], better["mine"], "step_answers" in better) == (["good"], 1, False)
    assert better["provenance"] == {"row": "f:1", "sample": 0, "scores": (1.0, 0.5), "own_scores": (0.0, 0.0)}
    same = improved_row(ROW, choose(goal(), ROW, []), {"row": "f:1"})
    assert {**ROW, "provenance": same["provenance"]} == same and same["provenance"]["sample"] is None


@pytest.mark.parametrize(
    ("low", "high", "start", "end"),
    [
        (0.01, 0.05, "It helped: ", "rows)."),
        (0.0, 0.05, "It did not help: ", "the interval is not above 0."),
        (-0.01, 0.05, "It did not help: ", "the interval is not above 0."),
        (-0.05, -0.01, "It did not help: ", "the improved run is not better."),
        (0.0, 0.0, "It did not help: ", "the improved run is not better."),
    ],
)
def test_the_sentence_about_the_result(low: float, high: float, start: str, end: str) -> None:
    found = Difference(0.4, 0.43, 0.03, (low, high), 0.5, False, 1, 2, 3)
    sentence = verdict("retrieval_all_found", found, 229)
    assert sentence.startswith(start) and sentence.endswith(end)
    assert "went from 0.400 to 0.430, a difference of +0.030" in sentence and "229 held-out rows" in sentence
