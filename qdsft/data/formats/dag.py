"""Write decompositions as graphs in JSON Lines."""

from __future__ import annotations

from qdsft.data.formats.format import Format, Item, Writer, json_line


def _text(item: Item) -> str:
    nodes = [{"id": number, "text": step} for number, step in enumerate(item.steps, start=1)]
    edges = [{"source": source, "target": target} for source, target in item.edges]
    return json_line({"question": item.question, "nodes": nodes, "edges": edges}, item.columns)


FORMAT = Format(
    "dag",
    writer=Writer(
        _text,
        holds="JSON Lines: `question`, `nodes` (`id`, `text`), `edges` (`source`, `target`: the target uses the "
        "source's answer)",
        columns="kept",
        keep=lambda columns: columns,
    ),
)
