"""The front door to other projects' formats: what can be read, what can be written, and converting files."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats.read import READERS, Reader, break_steps
from qdsft.data.formats.write import (
    ALWAYS_SELF_CONTAINED,
    DEFAULT_TOOL,
    HEADERS,
    WRITERS,
    entry,
    left_out,
    make_item,
    render_as,
)
from qdsft.data.record import Record, RowError
from qdsft.data.validation import validate
from qdsft.errors import UserError
from qdsft.files import new_text_file

__all__ = ["DEFAULT_TOOL", "READERS", "WRITERS", "Reader", "break_steps", "convert", "losses", "render_as"]

_UNREADABLE = {"not JSON", "not CSV", "not UTF-8", "damaged file"}
"""Faults behind which more rows may stand unseen: the file is refused, rather than converted in part."""


@dataclass
class ConvertReport:
    """What became of the rows of a converted file; every row is either written or dropped."""

    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Kind of fault -> rows left out for it."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Column that the target format has no place for -> rows that had it."""


def convert(
    source_format: str,
    target_format: str,
    source: Path,
    target: Path,
    *,
    self_contained: bool = False,
    tool_name: str = DEFAULT_TOOL,
    on_dropped: Callable[[RowError], None] = lambda error: None,
) -> ConvertReport:
    """Write the usable rows of `source` to `target`, one after the other; `target` appears once it is complete.

    A row that cannot be trained on (`data.faults`), or that the target format cannot express, is left out,
    counted, and handed to `on_dropped`, in order.

    Raises UserError for an unknown format, a `target` that exists or cannot be written, a file that cannot
    be read to its end, and a file without one usable row.
    """
    for name, known, kind in ((source_format, READERS, "source"), (target_format, WRITERS, "target")):
        if name not in known:
            raise UserError(f"there is no {kind} format {name!r}; choose one of: {', '.join(known)}")
    if target_format == "mermaid" and target.suffix == ".mmd":
        raise UserError(f"{target}: a .mmd file holds one chart, this is Markdown with many; choose a name with .md")
    report = ConvertReport()
    waiting: deque[RowError] = deque()  # named once a row is usable: until then the whole file may be of another format
    with new_text_file(target) as file:
        file.write(HEADERS.get(target_format, ""))
        for found in READERS[source_format](source):
            try:
                file.write(_entry(found, target_format, self_contained, tool_name, report))
                report.written += 1
            except RowError as error:
                if error.kind in _UNREADABLE:
                    raise
                report.dropped[error.kind] += 1
                waiting.append(error)
            while waiting and report.written:
                on_dropped(waiting.popleft())
        if not report.written:
            reason = f"none of its {len(waiting)} rows can be used; the first: {waiting[0]}" if waiting else "no rows"
            raise UserError(f"{source}: {reason}; give a file with at least one usable row")
    return report


def losses(target_format: str, *, self_contained: bool = False) -> tuple[str, ...]:
    """What a format cannot hold, whatever the rows: one line each."""
    lines = [_LOSSES[target_format]] if target_format in _LOSSES else []
    if self_contained or target_format in ALWAYS_SELF_CONTAINED:
        lines.append("references between steps become phrases, which cannot be undone")
    return tuple(lines)


_LOSSES = {
    "self-ask": "self-ask does not number its answers: which follow-up #n means is left to counting",
    "llamaindex": "llamaindex keeps no references between steps",
    "mermaid": "mermaid is a picture: nothing reads it back",
}


def _entry(
    found: Record | RowError, target_format: str, self_contained: bool, tool_name: str, report: ConvertReport
) -> str:
    """The text of a row; raises RowError for one that cannot be used."""
    if isinstance(found, RowError):
        raise found
    validate(found)
    columns = dict(found.row)
    question, decomposition = columns.pop("question"), Decomposition(tuple(columns.pop("sub_questions")))
    options: dict[str, Any] = {"self_contained": self_contained, "tool_name": tool_name}
    try:
        text = entry(target_format, make_item(target_format, question, decomposition, columns, **options))
    except UserError as error:
        raise RowError(found.source, f"no {target_format} form", str(error)) from error
    report.left_out.update(left_out(target_format, columns))
    return text
