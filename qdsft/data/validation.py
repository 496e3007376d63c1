"""Check the rows of the decomposition task."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

from qdsft.data.decomposition import Decomposition, without_numbers
from qdsft.data.record import Record, RowError, names, short_json

MOST_STEPS = 1000
"""Steps of a row."""

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters that are not white space: a sign of damaged text."""


def validate(record: Record) -> None:
    """Raise the first of `faults`, if there is one."""
    for fault in faults(record):
        raise fault


def faults(record: Record) -> Iterator[RowError]:
    """Yield everything that makes a row of the decomposition task unusable.

    A table without a header, a missing field or one of the wrong type, an empty list or step, too many steps, steps
    with their own numbers, a line break or control character in a step, a reference that is dangling, forward or to the
    step itself.
    """
    if record.tabular and not {"question", "sub_questions"} & record.row.keys():
        message = f"the first line must be a header with question and sub_questions; it has {names(record.row)}"
        yield RowError(record.source, "column missing", f"{message}; see data/DATA_FORMAT.md")
        return
    yield from question_faults(record)
    if fault := _missing(record, "sub_questions"):
        yield fault
    else:
        yield from _step_faults(record.source, record.row["sub_questions"])


def question_faults(record: Record) -> Iterator[RowError]:
    """Yield the faults of the question alone, as in a file of questions without answers."""
    if fault := _missing(record, "question"):
        yield fault
    else:
        question = record.row["question"]
        if not isinstance(question, str) or not question.strip():
            message = f"question must be text that is not empty, not {short_json(question)}"
            yield RowError(record.source, "question missing or empty", message)
        else:
            yield from _control_characters(record.source, "question", question)


def _step_faults(source: str, steps: Any) -> Iterator[RowError]:
    if not isinstance(steps, list):
        message = f"sub_questions must be a list of text, not {short_json(steps)}"
        yield RowError(source, "sub_questions not a list of text", message)
        return
    if len(steps) > MOST_STEPS:
        message = f"sub_questions: {len(steps)} steps, more than {MOST_STEPS}; divide or remove the row"
        yield RowError(source, "too many steps", message)
        return
    mistyped = [(number, step) for number, step in enumerate(steps, start=1) if not isinstance(step, str)]
    for number, step in mistyped:
        message = f"sub_questions: step {number} must be text, not {short_json(step)}"
        yield RowError(source, "sub_questions not a list of text", message)
    if mistyped:
        return
    if steps and without_numbers(steps):
        message = "the steps begin with their own numbers, which training adds once more; remove them"
        yield RowError(source, "numbered steps", f"sub_questions: {message} (qdsft data check --write-clean OUT does)")
    for kind, problem in Decomposition(tuple(steps)).faults():
        yield RowError(source, kind, f"sub_questions: {problem}; correct or remove the row")
    if not "".join(steps).isprintable():  # a quick test: nearly all text is printable, control characters are not
        for number, step in enumerate(steps, start=1):
            yield from _control_characters(source, f"sub_questions: step {number}", step)


def _control_characters(source: str, name: str, text: str) -> Iterator[RowError]:
    if found := _CONTROL.search(text):
        message = f"{name} has the control character U+{ord(found[0]):04X} at position {found.start()}; remove it"
        yield RowError(source, "control character", message)


def _missing(record: Record, name: str) -> RowError | None:
    if name in record.row:
        return None
    others = [other for other in islice(record.row, 100) if len(other) < 100]
    close = get_close_matches(name, set(others) - {"question", "sub_questions"}, n=1)
    hint = f"; is it {close[0]!r}? rename it" if close else f"; this row has {names(record.row)}"
    if record.tabular:
        message = f"the column {name!r} is missing{hint.replace('this row', 'the header')}"
        return RowError(record.source, "column missing", f"{message}; see data/DATA_FORMAT.md")
    return RowError(record.source, f"{name} missing or empty", f"the field {name!r} is missing{hint}")
