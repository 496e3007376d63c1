"""One decomposition in each format, against what the readers of that format take."""

from __future__ import annotations

import json

import pytest
from helpers.format_files import QUESTION, RELATIONS, STEPS

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.formats import WRITERS
from qdsft.data.formats.write import entry, make_item, render_as
from qdsft.errors import UserError


def test_jsonl() -> None:
    assert json.loads(render_as("jsonl", QUESTION, STEPS, {"qid": 1})) == {
        "question": QUESTION,
        "sub_questions": list(STEPS.steps),
        "qid": 1,
    }
    assert render_as("jsonl", "누구?", Decomposition(("누구?",))) == '{"question": "누구?", "sub_questions": ["누구?"]}'


def test_llamaindex_asks_each_question_alone() -> None:
    columns = {"step_answers": ["Turkey", "Ankara"]}  # not known yet when the sub-questions are made
    assert json.loads(render_as("llamaindex", "q", RELATIONS, columns, tool_name="wiki")) == {
        "question": "q",
        "items": [
            {"sub_question": "Mount Ida >> country", "tool_name": "wiki"},
            {"sub_question": "Mount Ida >> country >> capital", "tool_name": "wiki"},
        ],
    }
    default = json.loads(render_as("llamaindex", QUESTION, STEPS))
    assert {item["tool_name"] for item in default["items"]} == {"query_engine_tool"}


def test_dag() -> None:
    nodes = [{"id": number, "text": text} for number, text in enumerate(STEPS.steps, start=1)]
    edges = [{"source": 1, "target": 3}, {"source": 2, "target": 3}]
    assert json.loads(render_as("dag", QUESTION, STEPS, {"qid": 1})) == {
        "question": QUESTION,
        "nodes": nodes,
        "edges": edges,
        "qid": 1,
    }
    alone = json.loads(render_as("dag", QUESTION, STEPS, self_contained=True))
    assert alone["edges"] == edges and not REFERENCE.search(alone["nodes"][2]["text"])


@pytest.mark.parametrize("fmt", sorted(WRITERS))
def test_a_text_is_one_entry_of_a_file(fmt: str) -> None:
    item = make_item(fmt, "여러\n줄?", Decomposition(("누구?", "#1은?")), {"answer": "a\nb"})
    text = entry(fmt, item)
    assert text.endswith("\n") and render_as(fmt, "여러\n줄?", Decomposition(("누구?", "#1은?"))).strip()
    assert fmt == "mermaid" or text.count("\n") == 1


@pytest.mark.parametrize("fmt", sorted(WRITERS))
@pytest.mark.parametrize(("steps", "problem"), [((), "there are no steps"), (("#2",), "step 1 refers to #2, but")])
def test_invalid_answers_of_a_model_are_refused(fmt: str, steps: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        render_as(fmt, QUESTION, Decomposition(steps))
    assert str(caught.value).startswith(problem) and str(caught.value).endswith(f"; this has no {fmt} form")
