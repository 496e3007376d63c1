"""A data format: how its files are read, how they are written, and what they keep and lose."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdsft.data.record import Scanned
from qdsft.errors import UserError

DEFAULT_TOOL = "query_engine_tool"
"""The name that LlamaIndex gives to a tool without a name."""


@dataclass(frozen=True)
class Reader:
    """How files of a format are read. `file`, `steps` and `columns` are cells of the table in docs/FORMATS.md."""

    read: Callable[[Path], Scanned]
    """Yield a row with `question`, `sub_questions` and all other columns, or a `RowError` in its place.

    Need not check that steps and references are usable: `data.validation` does.
    """
    file: str
    steps: str
    columns: str


@dataclass(frozen=True)
class Item:
    """One question and its decomposition, ready to be written."""

    question: str
    steps: tuple[str, ...]
    """With references, or without if `self_contained`."""
    edges: tuple[tuple[int, int], ...]
    """(i, j) where step j uses the answer of step i, also if the steps are self-contained."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """All other columns of the row."""
    tool_name: str = DEFAULT_TOOL
    self_contained: bool = False


def _line(item: Item, text: str) -> str:
    return f"{text}\n"


def _keep_none(columns: Collection[str]) -> Collection[str]:
    return ()


def _accept(target: Path) -> None:
    return None


def _no_answers(columns: Mapping[str, Any], steps: Sequence[str]) -> Sequence[str | None]:
    return ()


@dataclass(frozen=True)
class Writer:
    """How a format is written. `holds`, `columns` and `loses` are cells of the table in docs/FORMATS.md."""

    text: Callable[[Item], str]
    """Return one decomposition as text. Raises UserError for what the format cannot express."""
    holds: str
    columns: str
    loses: str = ""
    """What the format cannot keep, apart from columns; also a cell of the table."""
    entry: Callable[[Item, str], str] = _line
    """Turn an item and its text into an entry of a file, with the final newline."""
    header: str = ""
    """The beginning of a file."""
    keep: Callable[[Collection[str]], Collection[str]] = _keep_none
    """Return the columns of a row that the format keeps, given all but the question and the steps."""
    self_contained: bool = False
    """Whether steps never hold references."""
    known_answers: Callable[[Mapping[str, Any], Sequence[str]], Sequence[str | None]] = _no_answers
    """Return the answers of steps that the text shows; a self-contained step holds them in place of references."""
    check_target: Callable[[Path], None] = _accept
    """Raise UserError for a file name that does not fit."""
    for_answers: bool = True
    """Whether `qdsft decompose --format` offers the format."""


@dataclass(frozen=True)
class Format:
    """A format, named as on the command line."""

    name: str
    reader: Reader | None = None
    writer: Writer | None = None


def json_line(fields: Mapping[str, Any], columns: Mapping[str, Any]) -> str:
    """Return fields of a format and columns of a row as one JSON object. Raises UserError for what JSON cannot hold."""
    if taken := sorted(fields.keys() & columns.keys()):
        raise UserError(f"the row has a field {taken[0]!r} already, which this format writes; rename or remove it")
    try:
        return json.dumps({**fields, **columns}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"a column cannot be written as JSON ({error}); remove or convert it") from error


def one_line(text: str) -> str:
    """Return a text with single spaces for white space and line breaks."""
    return " ".join(text.split())
