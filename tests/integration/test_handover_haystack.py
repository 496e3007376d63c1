"""examples/haystack_sub_questions.py in the real Haystack."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.handovers import STEPS, code_of, needs, run_code

CODE = """
import agent_loop
import haystack_sub_questions as example
from haystack import Pipeline
from haystack.core.serialization import allow_deserialization_module
from qdsft.data.decomposition import Decomposition

example.main()

allow_deserialization_module("agent_loop")
allow_deserialization_module("haystack_sub_questions")
pipeline = Pipeline()
pipeline.add_component("answerer", example.SubQuestionAnswerer("outputs/tiny-full", agent_loop.words))
again = Pipeline.loads(pipeline.dumps()).get_component("answerer")
print(again.run_dir, again.answer is agent_loop.words)

again.answer = lambda asked: {"Who?": "Ada"}[asked]
again.decompose = lambda question: Decomposition(("Who?", "Where is #1?", "When was #2?"))
print(again.run("a?")["answer"], again.run("a?")["errors"])
"""


@pytest.mark.slow
@needs("haystack")
def test_steps_are_answered_in_order(quick_python: str, tiny_run: Path) -> None:
    lines = run_code(quick_python, CODE + code_of("Haystack"), tiny_run)
    assert lines[:5] == STEPS
    assert lines[5] == "outputs/tiny-full True"
    assert lines[6] == (
        "None [\"step 2: KeyError: 'Where is Ada?'\", 'step 3: not asked, because step 2 has no answer']"
    )
    assert lines[7].startswith("your pipeline's answer to ") and lines[7].endswith(" []")
    assert lines[8].startswith("1 ") and "your pipeline's answer to " in lines[8]
