"""Rows of predictions.jsonl: written, read back, and refused with file and line when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps, PredictedText
from qdsft.errors import UserError
from qdsft.metrics.prediction_rows import PredictionRow, json_lines, prediction_row, read_prediction_rows

ROWS = [
    prediction_row(PredictedSteps.parse("Who is older?", ["a", "#1"], "1. a\n2. #3", True, {"source": " x "})),
    prediction_row(PredictedSteps("누가?", ("a",), Decomposition(("a", "b #1")), None)),
    prediction_row(PredictedText("It rained.", "Rain", "Wet", False)),
]


def read(path: Path) -> list[PredictionRow]:
    return list(read_prediction_rows(path))


def test_the_columns_on_disk() -> None:
    first, second, third = (json.loads(line) for line in json_lines(ROWS).splitlines())
    assert list(first) == [
        *("question", "gold", "sub_questions", "problems", "text", "stopped", "language", "source", "scores")
    ]
    assert (first["text"], first["source"], first["language"], len(first["problems"])) == ("1. a\n2. #3", "x", "en", 1)
    assert (second["text"], second["stopped"], second["language"]) == ("1. a\n2. b #1", None, "ko")
    assert list(third) == ["question", "gold", "text", "stopped", "language", "source", "scores"]


def test_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(json_lines(ROWS), encoding="utf-8")
    assert read(path) == ROWS


def test_columns_of_others_and_missing_ones_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "q", "gold": [], "scores": {"sari": 1, "ged": null}, "id": 7}\n', encoding="utf-8")
    assert read(path) == [PredictionRow(question="q", gold=[], scores={"sari": 1.0, "ged": None})]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": 3}, "no row of a predictions.jsonl with question, gold and scores; write it with qdsft evaluate"),
        ({"scores": [1]}, "no row of a predictions.jsonl with question, gold and scores; write it with qdsft evaluate"),
        ({"scores": {"sari": "1"}}, 'scores: sari must be a number, not "1"'),
        ({"scores": {"sari": True}}, "scores: sari must be a number, not true"),
        ({"scores": {"sari": 1e300}}, "scores: sari must be a number, not 1e+300"),
        ({"gold": 3}, "gold cannot be 3; write the file with qdsft evaluate"),
        ({"gold": ["a", None]}, 'gold cannot be ["a", null]; write the file with qdsft evaluate'),
        ({"sub_questions": "a"}, 'sub_questions cannot be "a"; write the file with qdsft evaluate'),
        ({"stopped": 1}, "stopped cannot be 1; write the file with qdsft evaluate"),
        ({"text": None}, "text cannot be null; write the file with qdsft evaluate"),
    ],
)
def test_damage_is_one_line_with_file_and_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "predictions.jsonl"
    damaged = json.dumps({**ROWS[1].to_json(), **change}, ensure_ascii=False)
    path.write_text(json_lines(ROWS[:1]) + damaged + "\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value) == f"{path}:2: {message}"


@pytest.mark.parametrize("content", ["{", "[1]\n", "\x00", "no JSON"])
def test_a_foreign_file_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:1: ") and "\n" not in str(caught.value)
