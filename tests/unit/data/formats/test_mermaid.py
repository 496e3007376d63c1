"""Mermaid flowcharts and their labels."""

from __future__ import annotations

import re

import pytest
from helpers.format_files import QUESTION, STEPS

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats.write import entry, make_item, render_as

CHART = """flowchart TD
  question(["Did Ada outlive Bob?"])
  step1["#35;1 When did Ada die?"]
  step2["#35;2 When did Bob die?"]
  step3["#35;3 Is #35;1 after #35;2?"]
  question -.-> step1
  question -.-> step2
  step1 --> step3
  step2 --> step3"""


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
