"""examples/llamaindex_sub_questions.py in the real LlamaIndex."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.handovers import STEPS, code_of, needs, run_code
from helpers.paths import ROOT

CODE = """
import json, logging, sys
import llamaindex_sub_questions as example
from llama_index.core import QueryBundle
from llama_index.core.question_gen.output_parser import SubQuestionOutputParser
from llama_index.core.question_gen.types import SubQuestionList
from llama_index.core.tools import ToolMetadata
from qdsft.data.decomposition import Decomposition
from qdsft.data.formats.write import render_as

example.main()

tools = [ToolMetadata("films and actors", "films"), ToolMetadata("lives", "people of 1[9]00")]
seen = logging.Handler()
seen.emit = lambda record: warnings.append(record.getMessage())
example.logger.addHandler(seen)
for text in json.loads({answers!r}):
    warnings = []
    chosen = example.SubQuestions(lambda *_: text).generate(tools, QueryBundle("whole?"))
    print(json.dumps([[(one.tool_name, one.sub_question) for one in chosen], len(warnings)], ensure_ascii=False))

for line in open({rows!r}, encoding="utf-8"):
    row = json.loads(line)
    assert [one.tool_name for one in SubQuestionList.model_validate(row).items]
written = render_as("llamaindex", "a?", Decomposition(("Who?", "Where is #1?")), tool_name="films")
print([(one.sub_question, one.tool_name) for one in SubQuestionOutputParser().parse(written).parsed_output])
"""
ANSWERS = {
    "1. [films] Who directed it?\n2. [people of 1[9]00] When was #1 born?": (
        [["films", "Who directed it?"], ["people of 1[9]00", "When was the answer to “Who directed it?” born?"]],
        0,
    ),
    "1. [Films] Who directed it?": ([["films", "Who directed it?"]], 1),
    "1. [없는 도구] 누가 썼나요?\n2. [films] #1은 어디 있나요?": (
        [["films", "누가 썼나요?"], ["films", "“누가 썼나요?”의 답은 어디 있나요?"]],
        1,
    ),
    "1. Who directed it?": ([["films", "Who directed it?"]], 0),
    "1. [films]": ([["films", "[films]"]], 1),
    "1. [filmsWho directed it?": ([["films", "[filmsWho directed it?"]], 0),
    "[films] Who directed it?": ([["films", "whole?"]], 1),
    "1. [films] Who is #2?\n2. [films] Who?": ([["films", "whole?"]], 1),
    "": ([["films", "whole?"]], 1),
}
"""What a model writes -> (tool, sub-question) of each, and the number of warnings."""


@pytest.mark.slow
@needs("llama_index")
def test_each_sub_question_has_one_of_the_tools(quick_python: str, tiny_run: Path) -> None:
    rows = ROOT / "data" / "examples" / "tasks" / "tool_routing.jsonl"
    code = CODE.replace("{answers!r}", repr(json.dumps([*ANSWERS]))).replace("{rows!r}", repr(str(rows)))
    printed = run_code(quick_python, code + code_of("LlamaIndex"), tiny_run)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in printed]
    assert lines[0] == "Generated 5 sub questions."
    asked = [line.partition(" Q: ")[::2] for line in lines[1:11:2]]
    assert [tool for tool, _ in asked] == ["[people]", "[people]", "[universities]", "[universities]", "[calculator]"]
    assert asked[2][1] == "When was the answer to “Which university did Ada Berg attend?” founded?"
    assert [re.sub(r"\[\w+\] ", "", line) for line in lines[11:16]] == STEPS
    chosen, rest = lines[16 : 16 + len(ANSWERS)], lines[16 + len(ANSWERS) :]
    for line, (expected, warnings) in zip(chosen, ANSWERS.values(), strict=True):
        assert json.loads(line) == [expected, warnings]
    assert rest[0] == "[('Who?', 'films'), ('Where is the answer to “Who?”?', 'films')]"
    # Random weights write no numbered list.
    assert rest[1:3] == ["Generated 1 sub questions.", "[people] Q: Where did Ada Berg and Bo Lind study?"]
    assert "ExecutedStep(number=1, step='Where did Ada Berg and Bo Lind study?'" in rest[-1]
