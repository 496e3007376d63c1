"""One decomposition in each format, against what the readers of that format take."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.formats.write import HEADERS, WRITERS, entry, left_out, make_item, render_as
from qdsft.errors import UserError

QUESTION = "Did Ada outlive Bob?"
STEPS = Decomposition(("When did Ada die?", "When did Bob die?", "Is #1 after #2?"))
RELATIONS = Decomposition(("Mount Ida >> country", "#1 >> capital"))
CHART = """flowchart TD
  question(["Did Ada outlive Bob?"])
  step1["#35;1 When did Ada die?"]
  step2["#35;2 When did Bob die?"]
  step3["#35;3 Is #35;1 after #35;2?"]
  question -.-> step1
  question -.-> step2
  step1 --> step3
  step2 --> step3"""


def test_jsonl() -> None:
    assert json.loads(render_as("jsonl", QUESTION, STEPS, {"qid": 1})) == {
        "question": QUESTION,
        "sub_questions": list(STEPS.steps),
        "qid": 1,
    }
    assert render_as("jsonl", "누구?", Decomposition(("누구?",))) == '{"question": "누구?", "sub_questions": ["누구?"]}'


def test_self_ask_with_answers_that_are_not_known() -> None:
    assert render_as("self-ask", QUESTION, STEPS, {"answer": False}) == (
        "Question: Did Ada outlive Bob?\nAre follow up questions needed here: Yes.\n"
        "Follow up: When did Ada die?\nIntermediate answer: #1\n"
        "Follow up: When did Bob die?\nIntermediate answer: #2\n"
        "Follow up: Is #1 after #2?\nIntermediate answer: #3\n"
        "So the final answer is: No"
    )
    assert render_as("self-ask", QUESTION, STEPS).endswith("\nSo the final answer is: #3")
    alone = render_as("self-ask", QUESTION, STEPS, self_contained=True)
    assert "Intermediate answer: [answer 1]\n" in alone
    assert "Follow up: Is the answer to “When did Ada die?” after the answer to “When did Bob die?”?\n" in alone
    assert alone.endswith("\nIntermediate answer: [answer 3]\nSo the final answer is: [answer 3]")
    assert not REFERENCE.search(alone)


def test_self_ask_with_answers() -> None:
    columns = {"step_answers": ["Turkey", "Ankara\n(city)"]}
    assert render_as("self-ask", "Capital\nof?", RELATIONS, columns) == (
        "Question: Capital of?\nAre follow up questions needed here: Yes.\n"
        "Follow up: Mount Ida >> country\nIntermediate answer: Turkey\n"
        "Follow up: #1 >> capital\nIntermediate answer: Ankara (city)\n"
        "So the final answer is: Ankara (city)"
    )
    # What the text showed before is what the reference stands for.
    assert "Follow up: Turkey >> capital\n" in render_as("self-ask", "q", RELATIONS, columns, self_contained=True)


@pytest.mark.parametrize("given", [["Turkey"], "Turkey", [None, None], [[], {}], ["", " "]])
def test_self_ask_takes_no_answers_of_another_shape(given: Any) -> None:
    assert "Intermediate answer: #1\n" in render_as("self-ask", "q", RELATIONS, {"step_answers": given, "answer": []})


@pytest.mark.parametrize(
    ("question", "answer", "said"), [("참?", True, "예"), ("참?", False, "아니요"), ("?", True, "Yes"), ("?", 7, "7")]
)
def test_self_ask_speaks_the_answer(question: str, answer: Any, said: str) -> None:
    text = render_as("self-ask", question, RELATIONS, {"answer": answer})
    assert text.endswith(f"\nSo the final answer is: {said}")


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


def test_qdmr() -> None:
    assert (
        render_as("qdmr", QUESTION, STEPS)
        == "return When did Ada die? ;return When did Bob die? ;return Is #1 after #2?"
    )
    columns = {"question_id": "A_1", "operators": "['select']", "split": "dev", "other": 1}
    item = make_item("qdmr", 'Who,\n"if"?', Decomposition(("a, b",)), columns)
    header, cells = csv.reader(io.StringIO(HEADERS["qdmr"] + entry("qdmr", item)))
    assert header == ["question_id", "question_text", "decomposition", "operators", "split"]
    assert cells == ["A_1", 'Who, "if"?', "return a, b", "['select']", "dev"]


@pytest.mark.parametrize(
    ("columns", "identity"),
    [({"qid": "q", "id": "i"}, "i"), ({"qid": "q"}, "q"), ({"question_id": 3, "id": "i"}, "3"), ({}, "")],
)
def test_qdmr_names_a_row_by_whatever_id_it_has(columns: dict[str, Any], identity: str) -> None:
    line = entry("qdmr", make_item("qdmr", "q", RELATIONS, columns))
    assert line == f"{identity},q,return Mount Ida >> country ;return #1 >> capital,,\n"


def test_qdmr_has_no_semicolon_inside_a_step() -> None:
    with pytest.raises(UserError, match=r"^step 2 has a semicolon, which ends a step in QDMR; reword it or remove"):
        render_as("qdmr", "q", Decomposition(("a", "b; c")))


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


@pytest.mark.parametrize(
    ("fmt", "columns", "message"),
    [
        ("dag", {"nodes": []}, "the row has a field 'nodes' already, which this format writes; rename or remove it"),
        ("jsonl", {"x": {1}}, "a column cannot be written as JSON (Object of type set is not JSON serializable); rem"),
        ("jsonl", {"x": [float("nan")]}, "a column cannot be written as JSON (Out of range float values are not JSON"),
    ],
)
def test_columns_that_cannot_be_written(fmt: str, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        render_as(fmt, QUESTION, STEPS, columns)
    assert str(caught.value).startswith(message)


def test_mermaid() -> None:
    assert render_as("mermaid", QUESTION, STEPS) == CHART
    assert entry("mermaid", make_item("mermaid", QUESTION, STEPS)) == f"```mermaid\n{CHART}\n```\n\n"


HARD = [
    '"quoted" [square] {curly} (round) <b>bold</b> & back\\slash',
    "#1; #quot; 50%% %%{init: {}}%% `code` ```fence``` $$x$$ a|b @{x}",
    '한국의 "수도"는 [어디]인가요? #1의 답; 끝',
    'style a:b"c" classDef x:y#z; class:::d *e* _f_ ~g~ --> A ^ h',
    "1. a list, which Mermaid refuses",
    "12. another",
    "- and another",
    "# heading",
    "end",
]


@pytest.mark.parametrize("text", HARD)
def test_mermaid_labels_say_what_the_text_says(text: str) -> None:
    chart = render_as("mermaid", text, Decomposition((text.replace("#1", "#"), "#1 ?")))
    question, step = re.findall(r'\["(.*)"\]', chart)[:2]
    for label, original in ((question, text), (step, "#1 " + text.replace("#1", "#"))):
        entities = re.sub(r"#(\d+);", "", label)
        assert not re.search(r'["#&<>:;%`\[\]{}|\\$*_]', entities)
        assert not re.match(r"\d+\.|[-+*#]\s", label)
        assert re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label) == original
    assert len(chart.splitlines()) == 6


@pytest.mark.parametrize("fmt", sorted(WRITERS))
def test_a_text_is_one_entry_of_a_file(fmt: str) -> None:
    item = make_item(fmt, "여러\n줄?", Decomposition(("누구?", "#1은?")), {"answer": "a\nb"})
    text = entry(fmt, item)
    assert text.endswith("\n") and render_as(fmt, "여러\n줄?", Decomposition(("누구?", "#1은?"))).strip()
    assert fmt == "mermaid" or text.count("\n") == 1


@pytest.mark.parametrize("fmt", sorted(WRITERS))
@pytest.mark.parametrize(("steps", "problem"), [((), "there are no steps"), (("#2",), "step 1 refers to #2, but")])
def test_what_a_model_got_wrong_is_refused(fmt: str, steps: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        render_as(fmt, QUESTION, Decomposition(steps))
    assert str(caught.value).startswith(problem) and str(caught.value).endswith(f"; this has no {fmt} form")


def test_left_out() -> None:
    columns = ["qid", "answer", "operators", "step_answers"]
    assert {fmt: left_out(fmt, columns) for fmt in WRITERS} == {
        "jsonl": [],
        "self-ask": ["qid", "operators"],
        "llamaindex": columns,
        "qdmr": ["answer", "step_answers"],
        "dag": [],
        "mermaid": columns,
    }
