"""`qdsft improve` from the samples to the comparison, on a tiny model that has learned two kinds of steps."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.split_run import read_rows, write_rows

from qdsft.cli.main import main
from qdsft.recipe import load_recipe
from qdsft.training.train import train

pytestmark = pytest.mark.slow

GOOD, BAD = ["What is alpha?", "How old is #1?"], ["What is omega?", "How old is #1?"]
HELD_OUT = 8


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on rows of which two thirds have steps that do not find their passage."""
    folder = tmp_path_factory.mktemp("improve")
    draw = random.Random(0)
    rows: list[dict[str, Any]] = []
    for number in range(48):
        steps = GOOD if draw.random() < 0.35 else BAD
        question = f"Who is number {number}?"
        rows.append({"question": question, "sub_questions": steps, "evidence": ["0"], "step_answers": ["a"]})
    write_rows(folder / "train.jsonl", [*rows, rows[0]])
    write_rows(
        folder / "eval.jsonl", [{**row, "question": row["question"].replace("?", " now?")} for row in rows[:HELD_OUT]]
    )
    others = [{"id": str(place), "text": f"number {place}"} for place in range(1, 30)]
    write_rows(folder / "corpus.jsonl", [{"id": "0", "text": "alpha"}, *others])
    values = {
        "model.name_or_path": tiny_model("llama"),
        "data.train": folder / "train.jsonl",
        "data.eval": folder / "eval.jsonl",
        "training.output_dir": folder / "run",
        "training.max_steps": 40,
        "training.learning_rate": 0.01,
        "training.warmup_steps": 5,
        "training.report_to": "none",
        "evaluation.max_new_tokens": 40,
        "preflight": "false",
    }
    train(load_recipe(ROOT / "recipes/tiny/full.yaml", [f"{key}={value}" for key, value in values.items()]))
    return folder


def test_samples_that_find_more_are_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["improve", str(folder / "run"), "--corpus", str(folder / "corpus.jsonl")]
    command += ["--samples", "6", "--temperature", "1.2"]
    assert main(command) == 0
    output, shown = folder / "run-improved", capsys.readouterr().out
    assert "It helped: all found@10, question and predicted steps went from 0.000 to 1.000" in shown
    given, rows = read_rows(folder / "train.jsonl"), read_rows(output / "train.jsonl")
    assert [row["question"] for row in rows] == [row["question"] for row in given]
    assert read_rows(output / "held_out.jsonl") == read_rows(folder / "eval.jsonl")
    replaced = [row for row in rows if row["provenance"]["sample"] is not None]
    assert len(replaced) > 10 and all("What is alpha?" in row["sub_questions"] for row in replaced)
    assert not any("step_answers" in row for row in replaced)
    for row, before in zip(rows, given, strict=True):
        if row not in replaced:
            assert {name: value for name, value in row.items() if name != "provenance"} == before
    asked = {line["index"] for line in read_rows(output / "samples.jsonl")[1:]}
    assert len(asked) == len({row["question"] for row in given if row["sub_questions"] == BAD})
    assert json.loads((output / "improve.json").read_text(encoding="utf-8"))["counts"]["replaced"] == len(replaced)
    assert main(command) == 0
    again = capsys.readouterr()
    assert again.out.splitlines()[-1] == shown.splitlines()[-1]
    assert "questions were sampled before" in again.err and "this run has finished" in again.err
