"""Means, intervals and groups of the scores of rows."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.prediction_rows import decomposition_row, language, source, text_row
from qdsft.summary import summarise
from qdsft.synth import generate_mixed

GOLD = ["How old is Ada?", "Is #1 above 40?"]


def rows() -> list[dict[str, Any]]:
    return [
        decomposition_row("Is Ada above 40?", GOLD, "1. How old is Ada?\n2. Is #1 above 40?", True, {"source": "x"}),
        decomposition_row("Is Ada above 40?", GOLD, "1. Is Ada above 40?", None, {"question_id": "NLVR2_dev_7"}),
        decomposition_row("에이다는 몇 살?", ["에이다는 몇 살?"], "1. 에이다는 몇 살?", False),
    ]


def test_the_shape_of_a_row() -> None:
    row = decomposition_row("Is Ada above 40?", GOLD, "How old is Ada?\n2. Is #2 above 40?", False, {"dataset": " s "})
    scores = row.pop("scores")
    assert row == {
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
    assert (found["samples"], found["exact_match"], found["stopped"]) == (3, pytest.approx(2 / 3), 0.5)
    assert found["copied_question"] == pytest.approx(2 / 3)
    assert found["intervals"]["exact_match"] == [0.0, 1.0]
    assert found["intervals"].keys() == rows()[0]["scores"].keys()
    assert summarise(rows()) == found


def test_groups() -> None:
    groups = summarise(rows())["groups"]
    assert {name: {key: value["samples"] for key, value in group.items()} for name, group in groups.items()} == {
        "language": {"en": 2, "ko": 1},
        "steps": {"1": 1, "2": 2},
        "source": {"NLVR2": 1, "x": 1},
    }
    assert groups["language"]["en"]["exact_match"] == 0.5
    assert "stopped" not in groups["source"]["NLVR2"]


def test_a_metric_that_no_row_has_is_left_out() -> None:
    found = summarise(rows()[1:2])
    assert "stopped" not in found and "stopped" not in found["intervals"]


def test_free_text() -> None:
    found = summarise([text_row("q", "a", "a", True), text_row("질문", "b", "c", False)])
    assert (found["exact_match"], found["stopped"], found["samples"]) == (0.5, 0.5, 2)
    assert found["groups"]["steps"] == found["groups"]["source"] == {}


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
