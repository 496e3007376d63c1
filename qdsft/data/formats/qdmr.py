"""Write QDMR in BREAK's CSV columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence

from qdsft.data.formats.csv_rows import guarded
from qdsft.data.formats.format import Format, Item, Writer, one_line
from qdsft.errors import UserError


def _text(item: Item) -> str:
    for number, step in enumerate(item.steps, start=1):
        if ";" in step:
            raise UserError(f"step {number} has a semicolon, which ends a step in QDMR; reword it or remove the row")
    return " ;".join(f"return {step}" for step in item.steps)


def _entry(item: Item, text: str) -> str:
    columns = item.columns
    identity = columns.get(_id_column(columns))
    cells = (identity, one_line(item.question), text, columns.get("operators"), columns.get("split"))
    return _csv_line(["" if cell is None else guarded(str(cell)) for cell in cells])


def _keep(columns: Collection[str]) -> Collection[str]:
    return {_id_column(columns), "operators", "split"}


def _id_column(columns: Collection[str]) -> str:
    """Return the name of the row's id, which differs between projects."""
    return next((name for name in ("question_id", "id", "qid") if name in columns), "question_id")


def _csv_line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


FORMAT = Format(
    "qdmr",
    writer=Writer(
        _text,
        holds="BREAK's CSV again; `id` or `qid` become `question_id`. A row with `;` in a step is dropped, and a "
        "cell that a spreadsheet would take for a formula gets a leading `'`, which `--from break` removes",
        columns="those that BREAK has",
        entry=_entry,
        header=_csv_line(["question_id", "question_text", "decomposition", "operators", "split"]),
        keep=_keep,
        for_answers=False,
    ),
)
