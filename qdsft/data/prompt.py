"""The prompt templates of a recipe, rendered over rows. All default wording is defined here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from qdsft.data.record import Record, RowError, names
from qdsft.errors import UserError, cut, reason
from qdsft.time_limit import TookTooLong, time_limit

Renderer = Callable[[dict[str, Any]], str]
Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""

SYSTEM = (
    "Split the question into simpler sub-questions, numbered, one per line. "
    "Write #1, #2, ... for the answer of an earlier sub-question."
)
USER = "{{ question }}"

TEACHER = """\
Split a question into simpler sub-questions that are answered one after another.
- Write a numbered list with one sub-question per line, and nothing else. Do not answer the sub-questions.
- Write #1, #2, ... for the answer of an earlier sub-question.
- The answer of the last sub-question is the answer of the question. Every other one is used by a later one.
- Write in the language of the question. Do not repeat the question.

Question: Who directed the film that won the first Academy Award for Best Picture?
1. Which film won the first Academy Award for Best Picture?
2. Who directed #1?

Question: Is the Rhine longer than the river that flows through Paris?
1. Which river flows through Paris?
2. How long is the Rhine?
3. How long is #1?
4. Is #2 greater than #3?

Question: 훈민정음을 만든 왕은 몇 살에 왕위에 올랐나요?
1. 훈민정음을 만든 왕은 누구인가요?
2. #1은 몇 년에 태어났나요?
3. #1은 몇 년에 왕위에 올랐나요?
4. #3에서 #2를 빼면 얼마인가요?

Question: {{ question }}
"""
"""The user message that `qdsft data distill` sends. One message, because some chat templates have no system message."""

RENDER_SECONDS = 10.0
LONGEST_TEXT = 10_000_000
"""Characters of a message."""
MOST_BITS = 100_000
"""Bits of a number that a template computes."""


class TemplateFault(UserError):
    """A template that cannot be compiled; `key` is its key in the prompt section."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"prompt.{key}: {message}")
        self.key = key


class _Environment(SandboxedEnvironment):
    """A sandbox whose operators make no text or list beyond LONGEST_TEXT, and no number beyond MOST_BITS."""

    intercepted_binops = frozenset({"*", "+", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MOST_BITS:  # no time limit ends the computation
                raise SecurityError(f"{operator} makes a number of over {MOST_BITS:,} bits")
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check_length("+", len(left) + len(right))
        for times, sized in ((left, right), (right, left)):
            if isinstance(times, int) and hasattr(sized, "__len__"):
                _check_length("*", times * len(sized))
        return super().call_binop(context, operator, left, right)


def _check_length(operator: str, length: int) -> None:
    if length > LONGEST_TEXT:
        raise SecurityError(f"{operator} makes over {LONGEST_TEXT:,} characters")


_ENVIRONMENT = _Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


class PromptTemplates:
    """The compiled Jinja templates of a prompt section.

    Raises TemplateFault on construction for broken Jinja. Rendering raises RowError for a column that the row does not
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
        with time_limit(RENDER_SECONDS):
            compiled = _ENVIRONMENT.from_string(source)
            parts = _parts(source)
    except jinja2.TemplateSyntaxError as error:
        line = f" in line {error.lineno} of the template" if error.lineno > 1 else ""
        raise TemplateFault(
            key, f"not valid Jinja{line}: {cut(str(error.message), 200)}; correct the template"
        ) from error
    except RecursionError as error:
        raise TemplateFault(key, "not valid Jinja: nested too deeply; simplify the template") from error
    except Exception as error:  # constants are computed while compiling
        raise TemplateFault(key, f"not valid Jinja: {reason(error)}; simplify the template") from error
    if _is_text(parts):
        text = compiled.render()
        return lambda row: text
    if len(parts) == 1 and isinstance(parts[0], nodes.Name):
        column = parts[0].name
        return lambda row: value if isinstance(value := row.get(column), str) else compiled.render(row)
    return lambda row: _render_within_bounds(compiled, row)


def _render_within_bounds(template: jinja2.Template, row: dict[str, Any]) -> str:
    with time_limit(RENDER_SECONDS):
        text = template.render(row)
    if len(text) > LONGEST_TEXT:
        raise SecurityError(f"the text has over {LONGEST_TEXT:,} characters")
    return text


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
        message = (
            f"prompt.{key}: {cut(str(error.message), 200)}; this row has the columns {names(row) if row else 'none'}"
        )
        raise RowError(record.source, "column missing", message) from error
    except TookTooLong as error:  # not an error of the row alone: each other row would take as long
        raise UserError(f"{record.source}: prompt.{key} {error} for this row; simplify the template") from error
    except Exception as error:  # the recipe's template may raise anything
        message = f"prompt.{key} cannot be rendered for this row: {reason(error)}; correct the template or the row"
        raise RowError(record.source, "prompt not rendered", message) from error
