"""Examples: rows rendered to chat messages and a completion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from qdsft.data.prompt import Message
from qdsft.data.record import Record, row_json


class Example(NamedTuple):
    """One row with its messages and the answer to learn."""

    record: Record
    messages: tuple[Message, ...]
    completion: str

    @property
    def question(self) -> str:
        """The user message. Its hash decides whether the row is held out."""
        return self.messages[-1]["content"]

    def to_json(self) -> str:
        """Return one line of a run's eval.jsonl."""
        return row_json({"row": self.record.row, "messages": self.messages, "completion": self.completion})


class Digest:
    """SHA-256 over the messages and completions of examples, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pending: list[str] = []

    def add(self, example: Example) -> None:
        """Add one example."""
        texts = [message["content"] for message in example.messages]
        texts.append(example.completion)
        # The lengths come first, so that texts divided differently give different digests.
        self._pending.append(str([len(text) for text in texts]))
        self._pending += texts
        if len(self._pending) > 1000:
            self._flush()

    def _flush(self) -> None:
        self._digest.update("".join(self._pending).encode())
        self._pending.clear()

    def hexdigest(self) -> str:
        """Return the digest of the examples so far."""
        self._flush()
        return self._digest.hexdigest()


def examples_sha256(examples: Iterable[Example]) -> str:
    """Return the SHA-256 over messages and completions, in order."""
    digest = Digest()
    for example in examples:
        digest.add(example)
    return digest.hexdigest()
