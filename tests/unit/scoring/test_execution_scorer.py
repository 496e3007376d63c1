"""Predicted steps executed over the synthetic world: right for what they compute, not for how they look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.cli.main import main
from qdsft.data.prediction import PredictedSteps
from qdsft.data.synth import generate, generate_mixed
from qdsft.errors import UserError
from qdsft.scoring.execution_scorer import ExecutionScorer
from qdsft.scoring.score_files import score_files

ROW: dict[str, Any] = {
    "question": "Where was the director of Harbor born?",
    "sub_questions": ["Who directed Harbor?", "Which city was #1 born in?"],
    "language": "en",
    "answer": "Tamsel",
}


def accuracy(text: str, row: dict[str, Any] = ROW) -> float | None:
    prediction = PredictedSteps.parse(row["question"], row["sub_questions"], text, True, row)
    return ExecutionScorer([ROW])(prediction)["execution_accuracy"]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("1. Who directed Harbor?\n2. Which city was #1 born in?", 1.0),
        ("1. Who wrote Map?\n2. Who directed Harbor?\n3. Which city was #2 born in?", 1.0),
        ("1. Who directed Bridge?\n2. Which city was #1 born in?", 1.0),  # the same director
        ("1. Who directed Harbor?", 0.0),
        ("1. Who directed Comet?\n2. Which city was #1 born in?", 0.0),
        ("1. Which company produced Harbor?\n2. Which city is #1 based in?", 0.0),
        ("1. Who is the person that directed Harbor?\n2. Which city was #1 born in?", 0.0),
        ("1. Which city was #2 born in?\n2. Who directed Harbor?", 0.0),
        ("", 0.0),
    ],
)
def test_what_the_steps_compute_counts(text: str, right: float) -> None:
    assert accuracy(text) == right


@pytest.mark.parametrize(
    "change",
    [
        {"language": "fr"},
        {"language": None},
        {"answer": "Oslo"},
        {"sub_questions": ["Who wrote it?"]},
    ],
)
def test_a_row_of_another_world_has_no_score(change: dict[str, Any]) -> None:
    row = {**ROW, **change}
    assert accuracy("1. Who directed Harbor?", row) is None
    with pytest.raises(UserError, match="--execute: no row is of the synthetic world"):
        ExecutionScorer([row, {"question": "q"}])


def test_gold_steps_are_right_in_both_languages() -> None:
    rows = list(generate_mixed(["en", "ko"], 200, 11))
    scorer = ExecutionScorer(rows)
    gold = [PredictedSteps.parse(row["question"], row["sub_questions"], "", True, row) for row in rows]
    full = [PredictedSteps(one.question, one.gold, type(one.answer)(one.gold), True, None, one.columns) for one in gold]
    assert {scorer(one)["execution_accuracy"] for one in full} == {1.0}
    assert {scorer(one)["execution_accuracy"] for one in gold} == {0.0}


def test_files_are_executed_and_single_hop_questions_show_restraint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*generate("en", 10, 3), *generate("en", 4, 3, max_steps=1)]
    split = [{**row, "sub_questions": [*row["sub_questions"], "Who wrote Map?"]} for row in rows[-1:]]
    (tmp_path / "g.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows[:-1], *split]), encoding="utf-8")
    found = score_files(tmp_path / "p.jsonl", tmp_path / "g.jsonl", execute=True)["tuned"]
    assert found.means["restraint"] == 0.75 and found.means["execution_accuracy"] == 13 / 14
    assert "execution_accuracy" not in score_files(tmp_path / "p.jsonl", tmp_path / "g.jsonl")["tuned"].means
    files = ["--predictions", str(tmp_path / "p.jsonl"), "--gold", str(tmp_path / "g.jsonl")]
    assert main(["evaluate", *files, "--execute"]) == 0
    assert "execution accuracy" in capsys.readouterr().out
