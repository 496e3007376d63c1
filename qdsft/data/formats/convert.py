"""Convert files between our rows and other projects' formats."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats import READERS, WRITERS
from qdsft.data.formats.format import DEFAULT_TOOL, Item, json_line
from qdsft.data.formats.write import entry, make_item
from qdsft.data.passages import EVIDENCE, Passage, move_passages
from qdsft.data.record import Record, RowError, Scanned
from qdsft.data.validation import validate
from qdsft.errors import UserError
from qdsft.files import new_text_file

_UNREADABLE = {"not JSON", "not CSV", "not UTF-8", "damaged file"}
"""Faults that can hide all later rows: the file is refused instead of converted in part."""


@dataclass
class ConvertReport:
    """The counts of a converted file; every row is either written or dropped."""

    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Kind of fault -> dropped rows."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Column that the target format does not keep -> rows that have it."""
    passages: int = 0
    """Different passages written to the corpus."""


def convert(
    source_format: str,
    target_format: str,
    source: Path,
    target: Path,
    *,
    self_contained: bool = False,
    tool_name: str = DEFAULT_TOOL,
    corpus: Path | None = None,
    on_dropped: Callable[[RowError], None] = lambda error: None,
) -> ConvertReport:
    """Write the usable rows of `source` to `target`, one after the other; `target` appears when it is complete.

    With `corpus`, the passages of all rows, dropped ones too, are written to that file, each once, and a row names
    those that answer it in the column `evidence`.

    A row that training would refuse, or that the target format cannot express, is dropped, counted, and passed to
    `on_dropped`, in order.

    Raises UserError for an unknown format, a `target` that exists or cannot be written, a file that cannot be read to
    its end, a file without a usable row, and with `corpus` one without passages or a target that drops `evidence`.
    """
    for name, known, kind in ((source_format, READERS, "source"), (target_format, WRITERS, "target")):
        if name not in known:
            raise UserError(f"there is no {kind} format {name!r}; choose one of: {', '.join(known)}")
    writer = WRITERS[target_format]
    writer.check_target(target)
    if corpus is not None and EVIDENCE not in writer.keep([EVIDENCE]):
        raise UserError(f"{target_format} does not keep the column {EVIDENCE}; write the corpus with --to jsonl")
    if corpus is not None and corpus.absolute() == target.absolute():
        raise UserError(f"{corpus} is the target of the rows; give the corpus another file")
    report = ConvertReport()
    # Dropped rows are reported once a row is usable. Without one, the file is probably of another format.
    waiting: deque[RowError] = deque()
    with new_text_file(target) as file, nullcontext() if corpus is None else new_text_file(corpus) as passages:
        file.write(writer.header)
        rows = READERS[source_format].read(source)
        for found in rows if passages is None else _without_passages(rows, passages, report):
            try:
                item, text = _entry(found, target_format, self_contained, tool_name)
                file.write(text)
                report.written += 1
                kept = writer.keep(item.columns)
                report.left_out.update(name for name in item.columns if name not in kept)
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
        if passages is not None and not report.passages:
            raise UserError(f"{source}: no row has passages (facts, paragraphs or context); leave out --corpus")
    return report


def losses(target_format: str, *, self_contained: bool = False) -> tuple[str, ...]:
    """Return what every file of a format lacks, whatever its rows: one line each."""
    writer = WRITERS[target_format]
    lines = [writer.loses] if writer.loses else []
    if self_contained or writer.self_contained:
        lines.append("references between steps become phrases, which cannot be undone")
    return tuple(lines)


def _without_passages(rows: Scanned, file: IO[str], report: ConvertReport) -> Iterator[Record | RowError]:
    """Yield the rows after their passages are written to `file`, each passage once."""
    written: set[str] = set()
    for found in rows:
        passages: list[Passage] = []
        if isinstance(found, Record):
            try:
                found, passages = move_passages(found)
            except RowError as error:
                found = error
        for passage in passages:
            if passage.id not in written:
                written.add(passage.id)
                file.write(json_line({"id": passage.id, "text": passage.text}, {}) + "\n")
        report.passages = len(written)
        yield found


def _entry(found: Record | RowError, target_format: str, self_contained: bool, tool_name: str) -> tuple[Item, str]:
    """Return a row ready to be written, and its text. Raises RowError for one that cannot be used."""
    if isinstance(found, RowError):
        raise found
    validate(found)
    columns = dict(found.row)
    question, decomposition = columns.pop("question"), Decomposition(tuple(columns.pop("sub_questions")))
    try:
        item = make_item(
            target_format, question, decomposition, columns, self_contained=self_contained, tool_name=tool_name
        )
        return item, entry(target_format, item)
    except UserError as error:
        raise RowError(found.source, f"no {target_format} form", str(error)) from error
