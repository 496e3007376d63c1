"""What all formats share."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.format_files import QUESTION, STEPS

from qdsft.data.formats import WRITERS
from qdsft.data.formats.write import render_as
from qdsft.errors import UserError


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


def test_columns_that_a_format_keeps() -> None:
    columns = ["qid", "answer", "operators", "step_answers"]
    assert {fmt: [name for name in columns if name in writer.keep(columns)] for fmt, writer in WRITERS.items()} == {
        "jsonl": columns,
        "self-ask": ["answer", "step_answers"],
        "llamaindex": [],
        "qdmr": ["qid", "operators"],
        "dag": columns,
        "mermaid": [],
    }
