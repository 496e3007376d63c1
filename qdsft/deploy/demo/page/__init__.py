"""The page of `qdsft demo`: its files, and what it is told of an answer. No part of it comes from another host."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from qdsft.data.task import Task
from qdsft.errors import UserError
from qdsft.scoring.report.graph_svg import draw_graph
from qdsft.scoring.report.page import STYLE

COPIES = ("json", "mermaid", "self-ask")
"""What the page offers to copy."""
_FOLDER = Path(__file__).parent
_ONLY_A_NUMBER = re.compile(r"\s*\d+\.?\s*")


def render_page(title: str, columns: Sequence[str], examples: dict[str, list[str]]) -> str:
    """The HTML document; `title`, the models' names and the examples by language are text."""
    setup = {"columns": list(columns), "examples": examples, "words": words()}
    # In a script element of JSON nothing but "<" can end it or begin a comment.
    data = json.dumps(setup, ensure_ascii=True).replace("<", "\\u003c")
    return _read("page.html").replace("{{ title }}", escape(title)).replace("{{ setup }}", data)


def style() -> str:
    """The style sheet: that of the reports, and the page's own."""
    return STYLE + _read("style.css")


def script() -> str:
    """The page's program."""
    return _read("script.js")


def words() -> dict[str, dict[str, str]]:
    """Language -> name -> what the page says."""
    content: dict[str, dict[str, str]] = json.loads(_read("words.json"))
    return content


def show_partial(task: Task, text: str) -> dict[str, Any]:
    """An answer that is being written: `{"steps"}`, or for another task `{"text"}`."""
    lines = text.splitlines()
    if lines and _ONLY_A_NUMBER.fullmatch(lines[-1]):  # the step itself has not begun
        lines.pop()
    found = task.parse("\n".join(lines))
    return {"text": text} if isinstance(found, str) else {"steps": list(found.steps)}


def show_complete(task: Task, question: str, text: str) -> dict[str, Any]:
    """A whole answer: `{"text", "copies": {format: text}}` and, for decompositions, `steps`, `faults` and `graph`.

    `faults` are (kind, description) pairs, `graph` is SVG. A decomposition with faults has no copies but JSON.
    """
    copies = {}
    for fmt in COPIES:
        try:
            task.check_format(fmt)
            copies[fmt] = task.show(fmt, question, text).text
        except UserError:
            continue
    found = task.parse(text)
    if isinstance(found, str):
        return {"text": text, "copies": copies}
    return {
        "text": text,
        "copies": copies,
        "steps": list(found.steps),
        "faults": [list(fault) for fault in found.faults()],
        "graph": draw_graph(found, question),
    }


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
