"""Means, intervals and groups of the scores of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.prediction import PredictedSteps, PredictedText
from qdsft.data.synth import generate_mixed
from qdsft.data.text import language
from qdsft.errors import UserError
from qdsft.metrics.catalog import BY_KEY
from qdsft.metrics.prediction_rows import PredictionRow, prediction_row, source
from qdsft.metrics.summary import summarise

GOLD = ["How old is Ada?", "Is #1 above 40?"]


def scored(
    question: str, gold: list[str], text: str, stopped: bool | None, columns: dict[str, Any] | None = None
) -> PredictionRow:
    return prediction_row(PredictedSteps.parse(question, gold, text, stopped, columns))


def rows() -> list[PredictionRow]:
    return [
        scored("Is Ada above 40?", GOLD, "1. How old is Ada?\n2. Is #1 above 40?", True, {"source": "x"}),
        scored("Is Ada above 40?", GOLD, "1. Is Ada above 40?", None, {"question_id": "NLVR2_dev_7"}),
        scored("에이다는 몇 살?", ["에이다는 몇 살?"], "1. 에이다는 몇 살?", False),
    ]


def test_the_shape_of_a_row() -> None:
    row = prediction_row(
        PredictedSteps.parse("Is Ada above 40?", GOLD, "How old is Ada?\n2. Is #2 above 40?", False, {"dataset": " s "})
    )
    content = row.to_json()
    scores = content.pop("scores")
    assert content == {
        "question": "Is Ada above 40?",
        "gold": GOLD,
        "sub_questions": ["How old is Ada?", "Is #2 above 40?"],
        "problems": ["line 'How old is Ada?' is not numbered", "step 2 refers to itself (#2)"],
        "text": "How old is Ada?\n2. Is #2 above 40?",
        "stopped": False,
        "language": "en",
        "source": "s",
    }
    assert scores["self_reference"] == 1.0 and scores["valid"] == 0.0


def test_means_are_over_the_rows_that_have_the_metric() -> None:
    found = summarise(rows())
    assert found.means["exact_match"] == pytest.approx(2 / 3)
    assert (found.samples, found.means["stopped"]) == (3, 0.5)
    assert found.means["copied_question"] == pytest.approx(2 / 3)
    assert found.intervals["exact_match"] == (0.0, 1.0)
    assert found.intervals.keys() == rows()[0].scores.keys()
    assert summarise(rows()) == found


def test_groups() -> None:
    groups = summarise(rows()).groups
    assert {name: {key: value.samples for key, value in group.items()} for name, group in groups.items()} == {
        "language": {"en": 2, "ko": 1},
        "steps": {"1": 1, "2": 2},
        "source": {"NLVR2": 1, "x": 1},
    }
    assert groups["language"]["en"].means["exact_match"] == 0.5
    assert "stopped" not in groups["source"]["NLVR2"].means


def test_a_metric_that_no_row_has_is_left_out() -> None:
    found = summarise(rows()[1:2])
    assert "stopped" not in found.means and "stopped" not in found.intervals


def test_free_text() -> None:
    found = summarise(
        [prediction_row(PredictedText("q", "a", "a", True)), prediction_row(PredictedText("질문", "b", "c", False))]
    )
    assert (found.means["exact_match"], found.means["stopped"], found.samples) == (0.5, 0.5, 2)
    assert found.groups["steps"] == found.groups["source"] == {}


def test_nothing_has_no_mean() -> None:
    with pytest.raises(UserError) as caught:
        summarise([])
    assert str(caught.value) == "there are no predictions to score; give evaluation data with at least one row"


def test_language_is_that_of_the_synthetic_corpus() -> None:
    assert all(language(row["question"]) == row["language"] for row in generate_mixed(["en", "ko"], 400, 2))
    assert language("谁写的？") == "other"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, None),
        ({"source": ""}, None),
        ({"source": 3}, None),
        ({"question_id": "plain"}, None),
        ({"question_id": "_x"}, None),
        ({"question_id": "ATIS_train_1", "dataset": "mine"}, "mine"),
    ],
)
def test_source(columns: dict[str, Any], expected: str | None) -> None:
    assert source(columns) == expected


CORPUS = list(generate_mixed(["en", "ko"], 120, 6))


def _shuffled(steps: list[str]) -> list[str]:
    return [*steps[1:], steps[0]]


def _shifted(steps: list[str]) -> list[str]:
    return [REFERENCE.sub(lambda match: f"#{int(match[1]) + 1}", step) for step in steps]


FAULTS: dict[str, Callable[[str, list[str]], tuple[str, bool]]] = {
    "none": lambda question, steps: (_numbered(steps), True),
    "references shifted by one": lambda question, steps: (_numbered(_shifted(steps)), True),
    "steps shuffled": lambda question, steps: (_numbered(_shuffled(steps)), True),
    "copied from the question": lambda question, steps: (_numbered([question]), True),
    "never stops": lambda question, steps: ("\n".join([_numbered(steps)] * 3), False),
}


def _numbered(steps: list[str]) -> str:
    return Decomposition(tuple(steps)).render()


@pytest.mark.parametrize(
    ("fault", "below", "above"),
    [
        ("none", {}, {}),
        ("references shifted by one", {"edge_f1": 0.5, "exact_match": 0.5, "valid": 0.5}, {"self_reference": 0.5}),
        ("steps shuffled", {"edge_f1": 0.6, "exact_match": 0.1, "valid": 0.5}, {}),
        ("copied from the question", {"edge_f1": 0.2, "step_f1": 0.5, "chrf": 0.7}, {"copied_question": 0.999}),
        ("never stops", {"stopped": 0.001, "valid": 0.001, "step_f1": 0.6}, {"repeated_step": 0.999}),
    ],
)
def test_a_fault_of_a_whole_corpus_shows_in_the_metrics_meant_for_it(
    fault: str, below: dict[str, float], above: dict[str, float]
) -> None:
    planted = []
    for row in CORPUS:
        text, stopped = FAULTS[fault](row["question"], row["sub_questions"])
        planted.append(scored(row["question"], row["sub_questions"], text, stopped, row))
    found = summarise(planted).means
    assert {name: found[name] for name, limit in below.items() if found[name] >= limit} == {}
    assert {name: found[name] for name, limit in above.items() if found[name] <= limit} == {}
    if fault == "none":
        wanted = {name: float(BY_KEY[name].better == "higher") for name in found if BY_KEY[name].better}
        assert {name: found[name] for name in wanted} == wanted
    if fault in {"references shifted by one", "steps shuffled"}:
        assert found["step_f1"] > 0.85 and found["step_count_accuracy"] == found["stopped"] == 1.0
