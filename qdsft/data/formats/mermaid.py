"""Write decompositions as Mermaid flowcharts."""

from __future__ import annotations

import re
from pathlib import Path

from qdsft.data.formats.format import Format, Item, Writer, one_line
from qdsft.errors import UserError

_MARKUP = re.compile(r'["#&<>:;%`*_~\[\]{}|\\$^=@+]|^\d+(?=\.\s)|^-')
"""Quotes, entities, comments and directives, Markdown (also lists, which Mermaid refuses), formulas.

The colon because Mermaid drops the semicolon of an entity in a line that looks like `style a:b #quot;`.
"""


def _text(item: Item) -> str:
    lines = ["flowchart TD", f'  question(["{_label(item.question)}"])']
    for number, step in enumerate(item.steps, start=1):
        lines.append(f'  step{number}["{_label(f"#{number} {step}")}"]')
    referring = {target for _, target in item.edges}
    lines += [f"  question -.-> step{n}" for n in range(1, len(item.steps) + 1) if n not in referring]
    lines += [f"  step{source} --> step{target}" for source, target in item.edges]
    return "\n".join(lines)


def _label(text: str) -> str:
    def encoded(match: re.Match[str]) -> str:
        return "".join(f"#{ord(character)};" for character in match[0])

    return _MARKUP.sub(encoded, one_line(text))


def _entry(item: Item, text: str) -> str:
    return f"```mermaid\n{text}\n```\n\n"


def _check_target(target: Path) -> None:
    if target.suffix == ".mmd":
        raise UserError(f"{target}: a .mmd file holds one chart, this is Markdown with many; choose a name with .md")


FORMAT = Format(
    "mermaid",
    writer=Writer(
        _text,
        holds="Markdown, one [Mermaid](https://mermaid.js.org/syntax/flowchart.html) flowchart for each question",
        columns="none",
        loses="everything but the picture: no tool reads the rows back",
        entry=_entry,
        check_target=_check_target,
    ),
)
