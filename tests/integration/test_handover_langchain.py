"""examples/langchain_sub_questions.py in the real LangChain."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.handovers import STEPS, code_of, needs, run_code

CODE = """
import asyncio
import langchain_sub_questions as example
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError

example.main()

class Seen(BaseCallbackHandler):
    names = []
    def on_chain_start(self, serialized, inputs, **more):
        self.names.append(more["name"])

steps = Decomposition(("Who wrote A?", "Who wrote B?", "Is #1 older than #2?"))
answer = RunnableLambda(lambda asked: asked.upper(), name="answer")
chain = example.sub_question_chain(lambda question: steps, answer)
seen = Seen()
found = chain.invoke("a?", {"callbacks": [seen]})
print(found.answer, seen.names.count("answer"), seen.names.count("decompose"))
piped = chain | (lambda found: found.answer)
print(piped.batch(["a?"] * 3) == [found.answer] * 3, asyncio.run(piped.ainvoke("a?")) == found.answer)
try:
    example.sub_question_chain(lambda question: Decomposition(("Who is #2?", "Who?")), answer).invoke("a?")
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@needs("langchain_core")
def test_steps_are_answered_in_order(quick_python: str, tiny_run: Path) -> None:
    lines = run_code(quick_python, CODE + code_of("LangChain"), tiny_run)
    assert lines[:5] == STEPS
    assert lines[5:8] == [
        "IS WHO WROTE A? OLDER THAN WHO WROTE B?? 3 1",
        "True True",
        "step 1 refers forward to #2; this cannot be executed",
    ]
    assert lines[8].startswith("your chain's answer to ") and lines[8].endswith(" ()")
    assert lines[9].startswith("1 ") and "your chain's answer to " in lines[9]
