"""The scripts in examples/ run as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from helpers.handovers import EXAMPLES, STEPS
from helpers.tiny_run import make_run

import qdsft
from qdsft.data.task import task_of
from qdsft.recipe.sections import Prompt

TinyModel = Callable[[str], Path]


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=200)


def test_a_decomposition_is_executed() -> None:
    done = run("agent_loop.py")
    assert done.stdout.splitlines()[1:] == STEPS, done.stderr


def test_missing_facts_are_unknown(tmp_path: Path) -> None:
    row = {"question": "아다는 어디서?", "sub_questions": ["아다는 어디서 공부했나요?", "Where is #1?"]}
    (tmp_path / "d.json").write_text(json.dumps(row), encoding="utf-8")
    (tmp_path / "f.json").write_text('{"아다는 어디서 공부했나요": "노릭 대학교"}', encoding="utf-8")
    done = run("agent_loop.py", "--decomposition", tmp_path / "d.json", "--facts", tmp_path / "f.json")
    assert done.stdout.splitlines()[1:] == [
        "  1. 아다는 어디서 공부했나요? 노릭 대학교",
        "  2. Where is 노릭 대학교? unknown",
    ], done.stderr


def test_a_step_that_cannot_be_executed_is_reported(tmp_path: Path) -> None:
    row = {"question": "q?", "sub_questions": ["Who wrote #2?", "When?"]}
    (tmp_path / "d.json").write_text(json.dumps(row), encoding="utf-8")
    done = run("agent_loop.py", "--decomposition", tmp_path / "d.json")
    assert (done.returncode, done.stdout) == (1, "q?\n")
    assert done.stderr == "cannot be executed: step 1 refers forward to #2\n"


@pytest.mark.slow
def test_a_run_decomposes_and_is_executed(tiny_model: TinyModel, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"), "tiny/full", "evaluation.max_new_tokens=80")
    done = run("agent_loop.py", "--run", run_dir, "Who is older, Ada or Bo?")
    # Random weights write no numbered list; what a grammar makes of them is one.
    assert done.returncode == 1 and "cannot be executed: " in done.stderr and "Traceback" not in done.stderr
    pytest.importorskip("llguidance", reason="pip install -e '.[constrained]'")
    decomposition = qdsft.Decomposer(run_dir, constrained=True)("Who is older, Ada or Bo?")
    executed = qdsft.execute(decomposition, lambda asked: "x")
    assert len(executed.steps) == len(decomposition.steps) > 0
    assert not any("#1" in (one.asked or "#1") for one in executed.steps)


def test_the_tool_description_is_a_schema_of_what_decompose_prints() -> None:
    tool = json.loads((EXAMPLES / "tool.json").read_text(encoding="utf-8"))
    asked, printed = (jsonschema.Draft202012Validator(tool[name]) for name in ("inputSchema", "outputSchema"))
    for schema in (asked, printed):
        schema.check_schema(schema.schema)
    asked.validate({"question": "누가 썼나요?"})
    for wrong in ({}, {"question": ""}, {"question": 1}, {"question": "a?", "steps": 3}):
        assert not asked.is_valid(wrong)
    task = task_of(Prompt())
    for text, valid in (("1. Who wrote it?\n2. When was #1 born?", True), ("1. Who is #2?", False), ("", False)):
        answer = json.loads(task.show("json", "a?", text).text)
        printed.validate(answer)
        assert answer["valid"] is valid
        assert not printed.is_valid({name: value for name, value in answer.items() if name != "valid"})
        assert not printed.is_valid({**answer, "sub_questions": "1. Who?"})
