"""All scores of one prediction, and how planted faults move them."""

from __future__ import annotations

import pytest

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps, PredictedText
from qdsft.metrics.scores import score

QUESTION = "How many people work for the company that Ada Lovelace founded?"
GOLD = (
    "Which company did Ada Lovelace found?",
    "Who works for #1?",
    "How many are #2?",
)


NO_FAULTS = dict.fromkeys(
    (
        *("dangling_reference", "forward_reference", "self_reference"),
        *("empty_step", "repeated_step", "copied_question"),
    ),
    0.0,
)
SHUFFLED = (GOLD[1], GOLD[0], GOLD[2])
SHIFTED = tuple(step.replace("#2", "#3").replace("#1", "#2") for step in GOLD)
WRONG_BUT_VALID = (*GOLD[:2], "How many are #1?")
MERGED = (" ".join(GOLD),)
GOLD_NEEDED = {"exact_match", "sari", "step_f1", "edge_f1", "chrf", "step_count_accuracy"}


def predicted(*steps: str, stopped: bool = True) -> PredictedSteps:
    return PredictedSteps(QUESTION, GOLD, Decomposition(steps), stopped)


def test_an_identical_prediction_is_perfect() -> None:
    expected = {
        "exact_match": 1.0,
        "sari": 1.0,
        "step_f1": 1.0,
        "edge_f1": 1.0,
        "chrf": 1.0,
        "step_count_accuracy": 1.0,
        "valid": 1.0,
        "stopped": 1.0,
        **NO_FAULTS,
    }
    assert expected.items() <= score(predicted(*GOLD)).items()


def test_upper_case_keeps_exact_match_but_drops_sari() -> None:
    values = score(predicted(*(step.upper() for step in GOLD)))
    assert values["exact_match"] == 1.0
    assert values["sari"] is not None and values["sari"] < 0.6


@pytest.mark.parametrize(
    ("steps", "holds", "found"),
    [
        (SHUFFLED, {"step_count_accuracy"}, {"self_reference"}),
        (SHIFTED, {"step_count_accuracy"}, {"self_reference"}),
        (WRONG_BUT_VALID, {"step_count_accuracy"}, set()),
        ((*GOLD, "Who are #4?"), set(), {"self_reference"}),
        (GOLD[:2], set(), set()),
        (MERGED, {"chrf"}, {"self_reference", "dangling_reference"}),  # chrF takes no notice of white space
        ((QUESTION,), set(), {"copied_question"}),
        ((*GOLD, GOLD[0]), {"edge_f1"}, {"repeated_step"}),
    ],
    ids=["shuffled", "shifted", "wrong-reference", "surplus", "missing", "merged", "copied-question", "repeated"],
)
def test_planted_faults_move_their_metrics(steps: tuple[str, ...], holds: set[str], found: set[str]) -> None:
    values = score(predicted(*steps))
    assert {name for name in GOLD_NEEDED if values[name] == 1} == holds
    assert {name for name in NO_FAULTS if values[name]} == found
    repeats_alone = found <= {"repeated_step", "copied_question"}  # odd, but usable
    assert (values["valid"], values["stopped"]) == (float(repeats_alone), 1.0)


def test_an_answer_that_was_cut_off_lowers_stopped_only() -> None:
    assert score(predicted(*GOLD, stopped=False)) == {**score(predicted(*GOLD)), "stopped": 0.0}


def test_the_stop_state_may_be_unknown() -> None:
    assert score(PredictedSteps(QUESTION, GOLD, Decomposition(GOLD), None))["stopped"] is None


def test_steps_of_an_invalid_answer_still_count() -> None:
    unnumbered = PredictedSteps(QUESTION, GOLD, Decomposition.parse("\n".join(GOLD)), True)
    values = score(unnumbered)
    assert (values["exact_match"], values["sari"], values["valid"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("text", ["", "\n \n", "1.", "???"])
def test_an_empty_or_useless_output_is_scored(text: str) -> None:
    values = score(PredictedSteps(QUESTION, GOLD, Decomposition.parse(text), False))
    assert values["exact_match"] == values["valid"] == values["step_count_accuracy"] == 0.0
    assert values["sari"] is not None and 0 <= values["sari"] < 0.6


def test_scores_of_free_text() -> None:
    assert score(PredictedText("q", "a b", " a\n b ", True)) == {"exact_match": 1.0, "chrf": 1.0, "stopped": 1.0}
    assert score(PredictedText("q", "a b", "A b", False))["exact_match"] == 0.0
    assert score(PredictedText("q", "a b", "ab", True))["exact_match"] == 0.0
