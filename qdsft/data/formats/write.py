"""Write one decomposition in a format given by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats import WRITERS
from qdsft.data.formats.format import DEFAULT_TOOL, Item
from qdsft.data.references import without_references
from qdsft.errors import UserError


def render_as(
    fmt: str,
    question: str,
    decomposition: Decomposition,
    columns: Mapping[str, Any] | None = None,
    *,
    self_contained: bool = False,
    tool_name: str = DEFAULT_TOOL,
) -> str:
    """Return one decomposition in the format `fmt`, a key of `WRITERS`, without a final newline.

    Raises UserError for a decomposition that is not valid, and for what the format cannot express.
    """
    if problems := decomposition.problems():
        raise UserError(f"{problems[0]}; this has no {fmt} form")
    item = make_item(fmt, question, decomposition, columns, self_contained=self_contained, tool_name=tool_name)
    return WRITERS[fmt].text(item)


def make_item(
    fmt: str,
    question: str,
    decomposition: Decomposition,
    columns: Mapping[str, Any] | None = None,
    *,
    self_contained: bool = False,
    tool_name: str = DEFAULT_TOOL,
) -> Item:
    """Return what the writer of `fmt` needs. Raises UserError as `without_references` does."""
    columns, writer = columns or {}, WRITERS[fmt]
    steps = decomposition.steps
    self_contained = self_contained or writer.self_contained
    if self_contained:
        steps = without_references(decomposition, writer.known_answers(columns, steps))
    return Item(question, steps, decomposition.edges, columns, tool_name, self_contained)


def entry(fmt: str, item: Item) -> str:
    """Return `item` as an entry of a file, with the final newline. Raises UserError as `render_as` does."""
    writer = WRITERS[fmt]
    return writer.entry(item, writer.text(item))
