"""The passages that a retrieval searches, and the column `evidence`, which names those that answer a question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.data.readers import stream_records
from qdsft.data.record import Record, RowError, short_json
from qdsft.errors import UserError

EVIDENCE = "evidence"
"""Column with the ids or texts of the passages that answer a question."""
_ID_LENGTH = 16  # hex digits


@dataclass(frozen=True)
class Passage:
    """One passage of a corpus."""

    id: str
    text: str


def make_passage(text: str) -> Passage:
    """Return a passage whose id depends only on its text, so that corpora of several files can be joined."""
    return Passage(hashlib.sha256(text.encode("utf-8")).hexdigest()[:_ID_LENGTH], text)


def read_corpus(path: Path) -> list[Passage]:
    """Return the passages of a file with `id` and `text`, in order.

    Raises UserError naming file and line for a row without them, and for an id that occurs twice.
    """
    passages: list[Passage] = []
    seen: dict[str, str] = {}
    for record in stream_records(path):
        id_, text = (_cell(record, name) for name in ("id", "text"))
        first = seen.setdefault(id_, record.source)
        if first != record.source:
            message = f"the id {short_json(id_)} is that of the passage in {first}; give each passage its own"
            raise RowError(record.source, "passage repeated", message)
        passages.append(Passage(id_, text))
    return passages


def _cell(record: Record, name: str) -> str:
    value = record.row.get(name)
    if not isinstance(value, str) or not value.strip():
        message = f"{name} must be text that is not empty, not {short_json(value)}; a passage has id and text"
        raise RowError(record.source, "not a passage", message)
    return value


def move_passages(record: Record) -> tuple[Record, list[Passage]]:
    """Return a row with the ids of its gold passages as `evidence`, in place of its passages, and all its passages.

    The passages are the column `facts` (StrategyQA), `paragraphs` (MuSiQue), or `context` with `supporting_facts`
    (HotpotQA). A row without such a column is returned unchanged. Raises RowError for a column that cannot be read.
    """
    row = record.row
    for name, read in (("facts", _facts), ("paragraphs", _paragraphs), ("context", _context)):
        if name not in row:
            continue
        if EVIDENCE in row:
            message = f"the row has a field {EVIDENCE!r} already, which is made from {name!r}; rename or remove it"
            raise RowError(record.source, "field given twice", message)
        try:
            found = [(make_passage(text), is_gold) for text, is_gold in read(row) if text.strip()]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"the passages in {name!r} cannot be read: {short_json(row[name])}; see docs/FORMATS.md"
            raise RowError(record.source, "not passages", message) from error
        kept = {key: value for key, value in row.items() if key not in {name, "supporting_facts"}}
        kept[EVIDENCE] = list(dict.fromkeys(passage.id for passage, is_gold in found if is_gold))
        return record._replace(row=kept), [passage for passage, _ in found]
    return record, []


def evidence_of(row: Any, where: str) -> list[str] | None:
    """Return the entries of a row's `evidence`; None if it has none. Raises UserError that begins with `where`."""
    entries = row.get(EVIDENCE)
    if entries is None or entries == []:
        return None
    if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
        raise UserError(f"{where}: {EVIDENCE} must be a list of ids or texts of passages, not {short_json(entries)}")
    return list(dict.fromkeys(entries))


def _facts(row: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield (text, whether it is gold) of StrategyQA's facts."""
    if not isinstance(row["facts"], list):
        raise TypeError
    for fact in row["facts"]:
        yield _text(fact), True


def _paragraphs(row: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield (text, whether it is gold) of MuSiQue's paragraphs."""
    for one in row["paragraphs"]:
        yield _titled(one.get("title"), one["paragraph_text"]), bool(one["is_supporting"])


def _context(row: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield (text, whether it is gold) of HotpotQA's context, as in HotpotQA's file or as on the Hub."""
    context, supporting = row["context"], row["supporting_facts"]
    if isinstance(context, dict):
        context = list(zip(context["title"], context["sentences"], strict=True))
    gold = set(supporting["title"]) if isinstance(supporting, dict) else {title for title, _ in supporting}
    for title, sentences in context:
        yield _titled(title, " ".join(_text(sentence).strip() for sentence in sentences)), title in gold


def _titled(title: Any, text: Any) -> str:
    return f"{_text(title)}: {_text(text)}" if title else _text(text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
