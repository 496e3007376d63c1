"""What a served run answers: with or without the grammar of decompositions, and to which messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qdsft.data.prompt import Message
from qdsft.data.record import Record, RowError
from qdsft.errors import UserError
from qdsft.inference.constrained import Grammar
from qdsft.inference.loaded_run import RunPrompts

DECOMPOSITION, TEXT = {"type": "decomposition"}, {"type": "text"}
"""Values of response_format: an answer of the grammar, and any text."""
_MARK = "\ue000"
"""A character of the private use area, which stands for the question."""


@dataclass(frozen=True)
class Answers:
    """Options of `qdsft serve`."""

    constrained: bool = False
    """Requests without response_format get decompositions."""
    only_decompositions: bool = False
    """Messages that the recipe does not render are refused."""


class ChatRules:
    """Decide what a chat request gets. `fixed` says why answers cannot be constrained; "" if they can be.

    Raises UserError if the options do not apply to the run.
    """

    def __init__(self, run: RunPrompts, answers: Answers, *, fixed: str = "") -> None:
        self.max_new_tokens = run.max_new_tokens
        self._run, self._answers, self._fixed = run, answers, fixed
        self.grammar: Grammar | None = None
        try:
            if fixed:
                raise UserError(fixed)
            self.grammar = run.grammar
        except UserError as error:
            if answers.constrained:
                raise
            self._fixed = str(error)
        if answers.only_decompositions:
            run.task.require_decompositions("--only-decompositions", run.run_dir)
            if self._question([*self._render(_MARK)]) != _MARK:
                raise UserError(
                    f"{run.run_dir}: --only-decompositions requires a prompt.user that holds the question once and no "
                    "other column; leave it out"
                )

    def constrains(self, request: dict[str, Any]) -> bool:
        """Return whether a request gets an answer of the grammar."""
        default = DECOMPOSITION if self._answers.constrained else TEXT
        wanted: dict[str, Any] = request.get("response_format") or default
        return wanted == DECOMPOSITION

    def problem(self, request: dict[str, Any]) -> str | None:
        """Return why a request, whose messages and lengths are known to be sound, is refused; None if it is not."""
        if request.get("response_format") not in (None, DECOMPOSITION, TEXT):
            return 'response_format must be {"type": "decomposition"} or {"type": "text"}'
        if self.constrains(request):
            if self.grammar is None:
                return self._fixed
            if request.get("stop"):
                return "stop can cut a decomposition; leave it out"
            length = request.get("max_completion_tokens") or request.get("max_tokens") or self.max_new_tokens
            if length < self.grammar.shortest:
                return f"max_tokens must be at least {self.grammar.shortest} for a decomposition"
        return self._messages_problem(request["messages"]) if self._answers.only_decompositions else None

    def _messages_problem(self, given: Sequence[dict[str, Any]]) -> str | None:
        messages = [{"role": one["role"], "content": _text(one["content"])} for one in given]
        question = self._question(messages)
        if not question or not question.strip() or self._render(question) != messages:
            return "this server only decomposes questions; `qdsft serve RUN_DIR --request QUESTION` prints its messages"
        try:
            self._run.encode([messages])
        except UserError as error:
            return str(error)
        return None

    def _question(self, messages: list[Message]) -> str | None:
        """Return the text of the last message that stands where the recipe has the question."""
        before, mark, after = self._render(_MARK)[-1]["content"].partition(_MARK)
        text = messages[-1]["content"]
        if not mark or mark in after or not text.startswith(before) or not text[len(before) :].endswith(after):
            return None
        return text[len(before) : len(text) - len(after)]

    def _render(self, question: str) -> list[Message]:
        try:
            return self._run.task.messages(Record({self._run.task.columns[0]: question}, "the question"))
        except RowError:  # the prompt has other columns
            return [{"role": "user", "content": ""}]


def _text(content: Any) -> str:
    """Return the text of a message, which may be in parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
