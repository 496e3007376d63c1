"""Answers of a model as text: one question's, and an entry of a file."""

from __future__ import annotations

import json
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats import ANSWER_FORMATS
from qdsft.data.formats.write import entry, make_item, render_as
from qdsft.errors import UserError

FORMATS = ("json", "text", *ANSWER_FORMATS)
"""Those but json and text exist for valid decompositions alone."""
ANY_TASK = ("json", "text")


def check_format(fmt: str, *, decomposition: bool) -> None:
    """Raise UserError if a run of another task than decomposition is asked for a format of decompositions."""
    if not decomposition and fmt not in ANY_TASK:
        raise UserError(
            f"--format {fmt} writes decompositions, and this run has a prompt.completion of its own; use json or text"
        )


def show_answer(fmt: str, question: str, text: str, *, decomposition: bool) -> tuple[str, str | None]:
    """(one question's answer, warning or None), for standard output.

    json: `{"question", "sub_questions", "valid"}`; for other tasks `{"input", "output"}`. Raises UserError for a
    decomposition that is not valid in a format that exists for valid ones alone.
    """
    if not decomposition:
        return (_dumps({"input": question, "output": text}) if fmt == "json" else text), None
    found = Decomposition.parse(text)
    problems = found.problems()
    warning = f"not a valid decomposition: {'; '.join(problems)}" if problems else None
    if fmt == "json":
        return _dumps({"question": question, "sub_questions": list(found.steps), "valid": not problems}), warning
    return (found.render() if fmt == "text" else render_as(fmt, question, found)), warning


def file_entry(fmt: str, row: dict[str, Any], text: str, *, stopped: bool, decomposition: bool) -> str:
    """The answer to a row as it stands in a file, final newline included.

    json: `{"question", "sub_questions", "problems", "text", "stopped"}` and the row's other columns (see
    `replaced`); for other tasks the row's columns with "output" and "stopped". text: the question, the steps, a
    blank line. Raises UserError as `show_answer` does.
    """
    if not decomposition:
        return _dumps({**row, "output": text, "stopped": stopped}) + "\n" if fmt == "json" else f"{text}\n\n"
    question, found = row["question"], Decomposition.parse(text)
    problems = found.problems()
    if fmt == "json":
        own = {"question": question, "sub_questions": list(found.steps), "problems": list(problems)}
        own |= {"text": text, "stopped": stopped}
        return _dumps({**own, **{name: value for name, value in row.items() if name not in own}}) + "\n"
    if fmt == "text":
        return f"{' '.join(question.split())}\n{found.render()}\n\n"
    if problems:
        raise UserError(f"{problems[0]}; this has no {fmt} form")
    return entry(fmt, make_item(fmt, question, found))


def replaced(fmt: str, row: dict[str, Any], *, decomposition: bool) -> set[str]:
    """The row's columns whose values `file_entry` leaves out."""
    if fmt == "json":
        own = {"sub_questions", "problems", "text", "stopped"} if decomposition else {"output", "stopped"}
        return own & row.keys()
    return row.keys() - {"question"} if decomposition else set(row)


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
