"""From a row to chat messages and the answer to learn. All default wording lives here."""

from __future__ import annotations

from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import SandboxedEnvironment

from qdsft.data import validate
from qdsft.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.record import Record
from qdsft.sections import Prompt

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

    Raises UserError on construction for broken Jinja, and on rendering, with file and line of the row,
    for a column that the row does not have or a message that comes out empty.
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

    def messages(self, record: Record) -> list[Message]:
        """The chat messages before the answer: an optional system message and one user message."""
        system = _render("system", self._system, record)
        user = _render("user", self._user, record)
        if not user.strip():
            raise UserError(f"{record.source}: prompt.user comes out empty for this row")
        messages = [{"role": "system", "content": system}] if system.strip() else []
        return [*messages, {"role": "user", "content": user}]

    def completion(self, record: Record) -> str:
        """The answer that the model learns to give."""
        if self.is_decomposition:
            validate(record)
            return Decomposition(tuple(record.row["sub_questions"])).render()
        text = _render("completion", self._completion, record)
        if not text.strip():
            raise UserError(f"{record.source}: prompt.completion comes out empty for this row")
        return text


def _compile(key: str, source: str) -> jinja2.Template:
    try:
        return _ENVIRONMENT.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"prompt.{key}: not valid Jinja: {error.message}") from error
    except RecursionError as error:
        raise UserError(f"prompt.{key}: not valid Jinja: nested too deeply") from error


def _render(key: str, template: jinja2.Template, record: Record) -> str:
    row: dict[str, Any] = record.row
    try:
        return template.render(row)
    except jinja2.UndefinedError as error:
        raise UserError(
            f"{record.source}: prompt.{key}: {error.message}; this row has the columns {', '.join(row) or 'none'}"
        ) from error
    except Exception as error:  # the template is the recipe's, so whatever it does wrong is for its author to mend
        raise UserError(f"{record.source}: prompt.{key} cannot be rendered for this row: {error}") from error
