"""Turn rows of other projects into rows with `question` and `sub_questions`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError, Scanned, names


def read_changed(path: Path, change: Callable[[Record], dict[str, Any]]) -> Scanned:
    """Yield the rows of a file after `change`. If it raises a RowError, that is yielded in place of the row."""
    for found in scan(path):
        if isinstance(found, Record):
            try:
                yield Record(change(found), found.source, found.tabular)
            except RowError as error:
                yield error
                if found.tabular and error.kind == "column missing":
                    return  # the other rows lack it, too
        else:
            yield found


def make_row(
    record: Record, question_field: str, steps: Any, others: dict[str, Any], *, drop: str = ""
) -> dict[str, Any]:
    """Return `question`, `sub_questions` and `others`, without `question_field` and the column `drop`.

    White space in questions and steps becomes single spaces. Steps of a wrong type are kept for `data.validation`.
    """
    text = get_field(record, question_field)
    for name in {"question", "sub_questions"} - {question_field}:
        if name in record.row:
            message = (
                f"the row has a field {name!r} already, which is made from {question_field!r}; rename or remove it"
            )
            raise RowError(record.source, "field given twice", message)
    kept = {name: value for name, value in others.items() if name not in {question_field, drop}}
    collapsed = [_collapse(step) for step in steps] if isinstance(steps, list) else steps
    return {"question": _collapse(text), "sub_questions": collapsed, **kept}


def get_field(record: Record, name: str) -> Any:
    """Return the value of a field. Raises RowError if the row does not have it."""
    if name in record.row:
        return record.row[name]
    message = f"the field {name!r} is missing; this row has {names(record.row)}: is it of another format?"
    raise RowError(record.source, "column missing" if record.tabular else "field missing", message)


def _collapse(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value
