"""The prompt templates of a recipe, rendered over rows. All default wording is defined here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

from qdsft.data.record import Record, RowError
from qdsft.errors import UserError

Renderer = Callable[[dict[str, Any]], str]
Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""

SYSTEM = (
    "Split the question into simpler sub-questions, numbered, one per line. "
    "Write #1, #2, ... for the answer of an earlier sub-question."
)
USER = "{{ question }}"

_ENVIRONMENT = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


class PromptTemplates:
    """The compiled Jinja templates of a prompt section.

    Raises UserError on construction for broken Jinja. Rendering raises RowError for a column that the row does not
    have and for a message that comes out empty.
    """

    def __init__(self, system: str, user: str, completion: str) -> None:
        self._system = _compile("system", system)
        self._user = _compile("user", user)
        self._completion = _compile("completion", completion)
        needed = (jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(source)) for source in (system, user))
        self.columns = sorted(set().union(*needed))
        """The columns that the system and user messages read."""
        self._fixed = self._system_message(Record({}, "")) if _is_text(_parts(system)) else None
        """The system message if it is the same for every row, else None."""

    def messages(self, record: Record) -> list[Message]:
        """Return the chat messages before the answer: an optional system message and one user message."""
        user = _render("user", self._user, record)
        if not user.strip():
            raise RowError(record.source, "empty prompt", "prompt.user comes out empty for this row; fill its columns")
        messages = self._system_message(record) if self._fixed is None else self._fixed
        return [*messages, {"role": "user", "content": user}]

    def completion(self, record: Record) -> str:
        """Return the text that prompt.completion gives for a row."""
        text = _render("completion", self._completion, record)
        if not text.strip():
            raise RowError(
                record.source, "empty completion", "prompt.completion comes out empty for this row; fill its columns"
            )
        return text

    def _system_message(self, record: Record) -> list[Message]:
        """Return the system message as a list of one, or an empty list if the message is empty."""
        system = _render("system", self._system, record)
        return [{"role": "system", "content": system}] if system.strip() else []


def _compile(key: str, source: str) -> Renderer:
    """Return a function of a row. Templates that are plain text or one column, as most are, skip Jinja."""
    try:
        compiled = _ENVIRONMENT.from_string(source)
        parts = _parts(source)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"prompt.{key}: not valid Jinja: {error.message}") from error
    except RecursionError as error:
        raise UserError(f"prompt.{key}: not valid Jinja: nested too deeply") from error
    if _is_text(parts):
        text = compiled.render()
        return lambda row: text
    if len(parts) == 1 and isinstance(parts[0], nodes.Name):
        column = parts[0].name
        return lambda row: value if isinstance(value := row.get(column), str) else compiled.render(row)
    return compiled.render


def _parts(source: str) -> list[nodes.Node]:
    statements = _ENVIRONMENT.parse(source).body
    return [part for node in statements for part in (node.nodes if isinstance(node, nodes.Output) else [node])]


def _is_text(parts: list[nodes.Node]) -> bool:
    return all(isinstance(part, nodes.TemplateData) for part in parts)


def _render(key: str, template: Renderer, record: Record) -> str:
    row: dict[str, Any] = record.row
    try:
        return template(row)
    except jinja2.UndefinedError as error:
        message = f"prompt.{key}: {error.message}; this row has the columns {', '.join(row) or 'none'}"
        raise RowError(record.source, "column missing", message) from error
    except Exception as error:  # the recipe's template may raise anything
        message = f"prompt.{key} cannot be rendered for this row: {error}"
        raise RowError(record.source, "prompt not rendered", message) from error
