"""The held-out rows of a run, kept in its directory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from qdsft.data.examples import Example
from qdsft.data.readers import stream_records
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.files import write_text
from qdsft.runs.layout import EVAL_ROWS


class EvalRow(BaseModel):
    """One line of eval.jsonl: a rendered held-out row."""

    row: dict[str, Any]
    messages: list[dict[str, str]]
    completion: str


def write_eval_rows(run_dir: Path, examples: Sequence[Example]) -> None:
    """Write the held-out examples to the run directory, so that evaluation needs no other file."""
    write_text(run_dir / EVAL_ROWS, "".join(example.to_json() + "\n" for example in examples))


def read_eval_rows(run_dir: Path, limit: int | None = None) -> list[Example]:
    """Return the held-out examples of a run, at most `limit`; raises UserError if the file is missing or damaged."""
    examples = []
    for record in islice(stream_records(run_dir / EVAL_ROWS), limit):
        try:
            kept = EvalRow.model_validate(record.row)
        except ValidationError as error:
            raise UserError(f"{record.source}: damaged, or written by another version of qdsft; train again") from error
        examples.append(Example(Record(kept.row, record.source), tuple(kept.messages), kept.completion))
    return examples
