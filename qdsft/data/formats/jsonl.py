"""Our own rows: any file that qdsft reads, and JSON Lines."""

from __future__ import annotations

from qdsft.data.formats.format import Format, Item, Reader, Writer, json_line
from qdsft.data.readers import scan


def _text(item: Item) -> str:
    return json_line({"question": item.question, "sub_questions": list(item.steps)}, item.columns)


FORMAT = Format(
    "jsonl",
    Reader(
        scan,
        file="our rows, in [any of our file formats](../data/DATA_FORMAT.md)",
        steps="unchanged",
        columns="kept",
    ),
    Writer(_text, holds="our rows", columns="kept", keep=lambda columns: columns, for_answers=False),
)
