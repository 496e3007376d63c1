"""examples/dspy_sub_questions.py in the real DSPy."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.handovers import STEPS, code_of, needs, run_code

CODE = """
import dspy
import dspy_sub_questions as example
from dspy.utils import DummyLM
from qdsft.data.decomposition import Decomposition

example.main()

class Copied:
    def __call__(self, question):
        return Decomposition(("Who wrote it?", "Where was #1 born?"))
    def __deepcopy__(self, memo):
        raise AssertionError("the run is copied")

program = example.SubQuestions(Copied(), dspy.Predict("question -> answer"))
lm = DummyLM({"Who wrote it?": {"answer": "Ada"}, "Where was Ada born?": {"answer": "Norwick"}})
with dspy.context(lm=lm):  # is the caller's alone, and steps are answered in other threads
    found = program.deepcopy()(question="a?")
print(found.answer, len(found.steps), found.errors)
print(len(program.predictors()), len(lm.history))
"""


@pytest.mark.slow
@needs("dspy")
def test_steps_are_answered_in_order(quick_python: str, tiny_run: Path) -> None:
    lines = run_code(quick_python, CODE + code_of("DSPy"), tiny_run)
    assert lines[:5] == STEPS
    assert lines[5:7] == ["Norwick 2 ()", "1 2"]
    assert lines[7] == "42 ()" and lines[8].startswith("1 ") and lines[8].endswith(" 42")
