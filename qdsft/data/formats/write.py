"""Writers of other projects' formats: one question and its decomposition as text, and as an entry of a file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.references import has_hangul, without_references
from qdsft.errors import UserError

DEFAULT_TOOL = "query_engine_tool"
"""What LlamaIndex itself calls a tool that was given no name."""


@dataclass(frozen=True)
class Item:
    """One question on its way out."""

    question: str
    steps: tuple[str, ...]
    """As they are to be written: with references, or without."""
    edges: tuple[tuple[int, int], ...]
    """(i, j) where step j rests on the answer of step i, also where the steps no longer say so."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the row has."""
    tool_name: str = DEFAULT_TOOL
    self_contained: bool = False


def make_item(
    fmt: str,
    question: str,
    decomposition: Decomposition,
    columns: Mapping[str, Any] | None = None,
    *,
    self_contained: bool = False,
    tool_name: str = DEFAULT_TOOL,
) -> Item:
    """What the writer of `fmt` is given; raises UserError as `without_references` does."""
    columns = columns or {}
    alone = self_contained or fmt in ALWAYS_SELF_CONTAINED
    # Known answers may stand only where the text shows them first: elsewhere nobody would have them yet.
    answers = _known_answers(columns, decomposition.steps) if fmt == "self-ask" else ()
    steps = without_references(decomposition, answers) if alone else decomposition.steps
    return Item(question, steps, decomposition.edges, columns, tool_name, alone)


def render_as(
    fmt: str,
    question: str,
    decomposition: Decomposition,
    columns: Mapping[str, Any] | None = None,
    *,
    self_contained: bool = False,
    tool_name: str = DEFAULT_TOOL,
) -> str:
    """One decomposition in the format `fmt`, a key of `WRITERS`; without a final newline.

    Raises UserError for a decomposition that is not valid, and for what the format cannot express.
    """
    if problems := decomposition.problems():
        raise UserError(f"{problems[0]}; this has no {fmt} form")
    item = make_item(fmt, question, decomposition, columns, self_contained=self_contained, tool_name=tool_name)
    return WRITERS[fmt](item)


def entry(fmt: str, item: Item) -> str:
    """`item` as it stands in a file of that format, final newline included; raises UserError as `render_as`."""
    text = WRITERS[fmt](item)
    if fmt == "qdmr":
        return _qdmr_row(item, text)
    if fmt == "mermaid":
        return f"```mermaid\n{text}\n```\n\n"
    if fmt == "self-ask":
        text = json.dumps({"question": item.question, "text": text}, ensure_ascii=False)
    return f"{text}\n"


def left_out(fmt: str, columns: Iterable[str]) -> list[str]:
    """Those of a row's further columns that the format has no place for."""
    if fmt in {"jsonl", "dag"}:
        return []
    kept = {"self-ask": {"answer", "step_answers"}, "qdmr": {_id_column(columns), "operators", "split"}}.get(fmt, set())
    return [name for name in columns if name not in kept]


def _jsonl(item: Item) -> str:
    return _json({"question": item.question, "sub_questions": list(item.steps)}, item.columns)


def _dag(item: Item) -> str:
    nodes = [{"id": number, "text": step} for number, step in enumerate(item.steps, start=1)]
    edges = [{"source": source, "target": target} for source, target in item.edges]
    return _json({"question": item.question, "nodes": nodes, "edges": edges}, item.columns)


def _llamaindex(item: Item) -> str:
    items = [{"sub_question": step, "tool_name": item.tool_name} for step in item.steps]
    return _json({"question": item.question, "items": items}, {})


def _json(own: dict[str, Any], columns: Mapping[str, Any]) -> str:
    if taken := sorted(own.keys() & columns.keys()):
        raise UserError(f"the row has a field {taken[0]!r} already, which this format writes; rename or remove it")
    try:
        return json.dumps({**own, **columns}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"a column cannot be written as JSON ({error}); remove or convert it") from error


def _self_ask(item: Item) -> str:
    answers = _known_answers(item.columns, item.steps)
    unknown = "[answer {}]" if item.self_contained else "#{}"
    lines = [f"Question: {_one_line(item.question)}", "Are follow up questions needed here: Yes."]
    for number, (step, answer) in enumerate(zip(item.steps, answers, strict=True), start=1):
        lines += [f"Follow up: {step}", f"Intermediate answer: {answer or unknown.format(number)}"]
    final = _spoken(item.columns.get("answer"), item.question) or answers[-1] or unknown.format(len(item.steps))
    return "\n".join([*lines, f"So the final answer is: {final}"])


def _known_answers(columns: Mapping[str, Any], steps: tuple[str, ...]) -> tuple[str | None, ...]:
    given = columns.get("step_answers")
    if not isinstance(given, list) or len(given) != len(steps):
        return (None,) * len(steps)
    return tuple(_spoken(answer, step) for answer, step in zip(given, steps, strict=True))


def _spoken(answer: Any, question: str) -> str | None:
    if isinstance(answer, bool):
        yes, no = ("예", "아니요") if has_hangul(question) else ("Yes", "No")
        return yes if answer else no
    return _one_line(str(answer)) or None if isinstance(answer, str | int | float) else None


def _qdmr(item: Item) -> str:
    for number, step in enumerate(item.steps, start=1):
        if ";" in step:
            raise UserError(f"step {number} has a semicolon, which ends a step in QDMR; reword it or remove the row")
    return " ;".join(f"return {step}" for step in item.steps)


_QDMR_COLUMNS = ("question_id", "question_text", "decomposition", "operators", "split")


def _qdmr_row(item: Item, decomposition: str) -> str:
    columns = item.columns
    identity = columns.get(_id_column(columns))
    cells = (identity, _one_line(item.question), decomposition, columns.get("operators"), columns.get("split"))
    return _csv_line(["" if cell is None else str(cell) for cell in cells])


def _id_column(columns: Iterable[str]) -> str:
    """Where the row's id stands, which other projects call otherwise."""
    return next((name for name in ("question_id", "id", "qid") if name in columns), "question_id")


def _csv_line(cells: list[str] | tuple[str, ...]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _mermaid(item: Item) -> str:
    lines = ["flowchart TD", f'  question(["{_mermaid_label(item.question)}"])']
    for number, step in enumerate(item.steps, start=1):
        lines.append(f'  step{number}["{_mermaid_label(f"#{number} {step}")}"]')
    referring = {target for _, target in item.edges}
    lines += [f"  question -.-> step{n}" for n in range(1, len(item.steps) + 1) if n not in referring]
    lines += [f"  step{source} --> step{target}" for source, target in item.edges]
    return "\n".join(lines)


_MERMAID_MARKUP = re.compile(r'["#&<>:;%`*_~\[\]{}|\\$^=@+]|^\d+(?=\.\s)|^-')
"""Quotes, entities, comments and directives, Markdown (a list too, which Mermaid refuses), formulas.

The colon because Mermaid eats the semicolon of an entity in a line that looks like `style a:b #quot;`.
"""


def _mermaid_label(text: str) -> str:
    def encoded(match: re.Match[str]) -> str:
        return "".join(f"#{ord(character)};" for character in match[0])

    return _MERMAID_MARKUP.sub(encoded, _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


WRITERS: dict[str, Callable[[Item], str]] = {
    "jsonl": _jsonl,
    "self-ask": _self_ask,
    "llamaindex": _llamaindex,
    "qdmr": _qdmr,
    "dag": _dag,
    "mermaid": _mermaid,
}
"""Target format -> the text of one question; each raises UserError for what it cannot express."""

ALWAYS_SELF_CONTAINED = {"llamaindex"}
"""Formats whose readers put no answers in the place of references."""

HEADERS = {"qdmr": _csv_line(_QDMR_COLUMNS)}
"""What a file begins with."""
