"""`qdsft check` says in one line what `qdsft data check` finds, and how to list it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from qdsft.cli.main import main
from qdsft.data.checks.summary import RunningCheck, summarise_check
from qdsft.data.split import stream_split
from qdsft.recipe import load_recipe

GOOD = {"question": "Which river of Seoul is longest?", "sub_questions": ["Which rivers has it?", "Which of #1?"]}
OTHER = {"question": "Is the moon nearer than the sun?", "sub_questions": ["How far?", "Is it further than #1?"]}
ONE_STEP = {"question": "Who wrote Hamlet, and when?", "sub_questions": ["Who wrote it?"]}
NUMBERED = {"question": "Did A outlive B?", "sub_questions": ["1. When did A die?", "2. Did B die after #1?"]}
LOST = {"question": "Where is the caf\ufffd of A?", "sub_questions": ["Who is A?", "Where is the cafe of #1?"]}

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("model: {name_or_path: m}\ndata: {train: 'my rows.jsonl', eval_fraction: 0.5}\n")


def write(name: str, *rows: dict[str, Any]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([GOOD, OTHER, ONE_STEP], "1 warning (1 one step only)"),
        ([GOOD, GOOD, OTHER, LOST], "2 warnings (1 question repeated, 1 lost character)"),
        ([NUMBERED, NUMBERED, ONE_STEP], "2 errors (2 numbered steps), 1 warning (1 one step only)"),
        ([GOOD, {**GOOD, "sub_questions": ["A?", "#4"]}], "1 error (1 dangling reference), 1 warning (1 unused step)"),
    ],
)
def test_findings_are_summarised_in_one_line(rows: list[dict[str, Any]], found: str, capsys: Capture) -> None:
    write("my rows.jsonl", *rows)
    status = main(["check", "r.yaml"])
    out, err = capsys.readouterr()
    line = next(line for line in out.splitlines() if line.startswith("data check: "))
    assert line == f"data check: {found}; list them with: qdsft data check 'my rows.jsonl' --recipe r.yaml"
    assert status == int("error" in found) and ("error: my rows.jsonl:" in err) == bool(status)
    command = shlex.split(line.split("list them with: ")[1])
    assert main(command[1:]) == status
    assert f"rows {len(rows):>23}" in capsys.readouterr().out


def test_good_rows_print_nothing() -> None:
    write("my rows.jsonl", GOOD, OTHER)
    assert summarise_check(load_recipe("r.yaml"), lengths=True) is None


def test_held_out_rows_are_compared() -> None:
    write("my rows.jsonl", GOOD, OTHER)
    write("e.jsonl", OTHER)
    found = summarise_check(load_recipe("r.yaml", ["data.eval=e.jsonl"]), lengths=True)
    assert found == (
        "data check: 1 warning (1 question is held out); list them with: "
        "qdsft data check 'my rows.jsonl' --eval e.jsonl --recipe r.yaml"
    )


SUMMARIES = "prompt={user: 'Sum up: {{ question }}', completion: '{{ sum }}'}"


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ([], "5 warnings (2 question repeated, 1 one step only, 1 lost character, 1 same question, other answer)"),
        (["data.max_samples=1", "data.eval_fraction=0"], "5 warnings ("),
        (
            ["data.train=[{path: 'my rows.jsonl', weight: 3}, {path: more.jsonl}]"],
            "7 warnings (3 question repeated, 2 one step only",
        ),
        (
            ["data.eval=e.jsonl"],
            "8 warnings (3 question repeated, 1 question is held out, 1 one step only, 1 lost character, 1 nearly",
        ),
        ([SUMMARIES], "4 warnings (2 question repeated, 1 lost character, 1 same question, other answer)"),
    ],
)
def test_rows_that_are_being_prepared_give_the_same_summary(overrides: list[str], found: str) -> None:
    near = {**OTHER, "question": str(OTHER["question"]).rstrip("?")}
    same = {**GOOD, "sub_questions": ["Which rivers are there?", "Which of #1 is longest?"]}
    rows = [GOOD, GOOD, OTHER, ONE_STEP, LOST, near, same, GOOD]
    write("my rows.jsonl", *({**row, "sum": row["sub_questions"][0]} for row in rows))
    write("more.jsonl", ONE_STEP)
    write("e.jsonl", OTHER, OTHER)
    recipe = load_recipe("r.yaml", overrides)
    check = RunningCheck(recipe)
    assert len(list(stream_split(recipe, on_example=check.add))) > 0
    summary = check.summary()
    assert summary == summarise_check(recipe, lengths=False)
    assert summary and summary.startswith(f"data check: {found}")


def test_data_on_the_hub_are_not_summarised() -> None:
    assert summarise_check(load_recipe("r.yaml", ["data.train=user/name"]), lengths=True) is None


def test_too_few_rows_are_reported_before_training(capsys: Capture) -> None:
    write("my rows.jsonl", *[{**GOOD, "question": f"Which river of city {n} is longest?"} for n in range(8)])
    assert main(["check", "r.yaml", "data.eval_fraction=0.01"]) == 0
    assert (
        "evaluation: no row is held out (8 rows, data.eval_fraction 0.01), so there is nothing"
        in capsys.readouterr().out
    )
