"""From a row to chat messages and the answer to learn. All default wording lives here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

from qdsft.data.decomposition import numbered
from qdsft.data.record import Record, RowError
from qdsft.data.validation import validate
from qdsft.errors import UserError
from qdsft.recipe.sections import Prompt

Renderer = Callable[[dict[str, Any]], str]
Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""

SYSTEM = (
    "Split the question into simpler sub-questions, numbered, one per line. "
    "Write #1, #2, ... for the answer of an earlier sub-question."
)
USER = "{{ question }}"

_ENVIRONMENT = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


class PromptWriter:
    """Renders the prompt section of a recipe over rows.

    Raises UserError on construction for broken Jinja, and RowError on rendering for a column that the row
    does not have or a message that comes out empty.
    """

    def __init__(self, prompt: Prompt) -> None:
        self.is_decomposition = prompt.completion is None
        if not self.is_decomposition and prompt.user is None:
            raise UserError(
                "prompt.user is missing: a recipe with its own prompt.completion words its own user message"
            )
        default_system = SYSTEM if self.is_decomposition else ""
        system = default_system if prompt.system is None else prompt.system
        user = USER if prompt.user is None else prompt.user
        self._system = _compile("system", system)
        self._user = _compile("user", user)
        self._completion = _compile("completion", prompt.completion or "")
        needed = (jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(source)) for source in (system, user))
        self.columns = sorted(set().union(*needed))
        """The columns that a prompt needs: those of the system and user messages."""
        self._fixed = self._system_message(Record({}, "")) if _is_text(_parts(system)) else None
        """The system message, where no row changes it."""

    def messages(self, record: Record) -> list[Message]:
        """The chat messages before the answer: an optional system message and one user message."""
        user = _render("user", self._user, record)
        if not user.strip():
            raise RowError(record.source, "empty prompt", "prompt.user comes out empty for this row; fill its columns")
        messages = self._system_message(record) if self._fixed is None else self._fixed
        return [*messages, {"role": "user", "content": user}]

    def _system_message(self, record: Record) -> list[Message]:
        """None or one."""
        system = _render("system", self._system, record)
        return [{"role": "system", "content": system}] if system.strip() else []

    def record(self, question: str) -> Record:
        """The row of a typed question: the question itself, or a JSON object where the prompt has several columns.

        So can a single column be given whose value is no text, such as the turns of a dialogue. Raises UserError for
        text that is neither.
        """
        try:
            question.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError("the question is not UTF-8; check the terminal's encoding") from error
        row = None if self.is_decomposition else _json_object(question)
        if len(self.columns) == 1 and self.columns[0] not in (row or {}):
            return Record({self.columns[0]: question.strip()}, "the question")
        if row is None:
            raise UserError(
                f"this run's prompt has the columns {', '.join(self.columns)}; give a JSON object with them"
            )
        return Record(row, "the question")

    def completion(self, record: Record) -> str:
        """The answer that the model learns to give."""
        if self.is_decomposition:
            validate(record)
            return numbered(record.row["sub_questions"])
        text = _render("completion", self._completion, record)
        if not text.strip():
            raise RowError(
                record.source, "empty completion", "prompt.completion comes out empty for this row; fill its columns"
            )
        return text


def _compile(key: str, source: str) -> Renderer:
    """A function of a row; where the template is a mere text or column, as most are, one that skips Jinja."""
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
    except Exception as error:  # the template is the recipe's, so whatever it does wrong is for its author to mend
        message = f"prompt.{key} cannot be rendered for this row: {error}"
        raise RowError(record.source, "prompt not rendered", message) from error


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
