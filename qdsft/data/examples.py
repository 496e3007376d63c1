"""Examples: records rendered to chat messages and a completion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qdsft.data.prompt import Message, PromptWriter
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.recipe import Recipe


class Example(NamedTuple):
    """One row with its messages and the answer to learn."""

    record: Record
    messages: tuple[Message, ...]
    completion: str

    @property
    def question(self) -> str:
        """The user message; its hash decides on which side of the split the row falls."""
        return self.messages[-1]["content"]

    def to_json(self) -> str:
        """One line of a run's eval.jsonl; what JSON has no form for, such as a date, is written as text."""
        content = {"row": self.record.row, "messages": self.messages, "completion": self.completion}
        return json.dumps(content, ensure_ascii=False, default=str)


class _Digest:
    """SHA-256 over messages and answers, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pending: list[str] = []

    def add(self, example: Example) -> None:
        texts = [message["content"] for message in example.messages]
        texts.append(example.completion)
        # With its lengths before it, no text can be taken for another division of the same characters.
        self._pending.append(str([len(text) for text in texts]))
        self._pending += texts
        if len(self._pending) > 1000:
            self._flush()

    def _flush(self) -> None:
        self._digest.update("".join(self._pending).encode())
        self._pending.clear()

    def hexdigest(self) -> str:
        self._flush()
        return self._digest.hexdigest()


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over messages and answers, in order."""
    digest = _Digest()
    for example in examples:
        digest.add(example)
    return digest.hexdigest()


def render(records: Iterable[Record], writer: PromptWriter) -> Iterator[Example]:
    """Render and validate row after row; raises UserError for the first that is unusable."""
    for record in records:
        completion = writer.completion(record)  # first, for of a decomposition it checks the whole row
        yield Example(record, tuple(writer.messages(record)), completion)


def make_writer(recipe: Recipe) -> PromptWriter:
    """The prompt writer of a recipe; raises UserError naming the recipe."""
    try:
        return PromptWriter(recipe.prompt)
    except UserError as error:
        raise UserError(f"{recipe.path}: {error}") from error
