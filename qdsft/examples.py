"""Examples for training and for evaluation: rendered rows, split without leaks."""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from qdsft.data import is_hub_id, stream_records
from qdsft.errors import UserError
from qdsft.prompt import Message, PromptWriter
from qdsft.question import question_hash
from qdsft.recipe import Recipe
from qdsft.record import Record


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


Side = Literal["train", "eval", "left_out"]
"""left_out: a training row whose question stands in data.eval."""


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


class Tally:
    """Counts and fingerprints of a split that streams by, for run.json."""

    def __init__(self) -> None:
        self.rows: Counter[Side] = Counter()
        self._digests = {side: _Digest() for side in ("train", "eval")}

    def add(self, side: Side, example: Example) -> None:
        """Count one row on its side."""
        self.rows[side] += 1
        if side != "left_out":
            self._digests[side].add(example)

    def summary(self) -> dict[str, Any]:
        """Counts and SHA-256 of both sides."""
        return {
            "train_rows": self.rows["train"],
            "eval_rows": self.rows["eval"],
            "left_out": self.rows["left_out"],
            "train_sha256": self._digests["train"].hexdigest(),
            "eval_sha256": self._digests["eval"].hexdigest(),
        }


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


def assign_sides(
    train: Iterable[Example], held_out: Iterable[Example] | None, recipe: Recipe
) -> Iterator[tuple[Side, Example]]:
    """Hold out examples by a hash of the question, or use the given ones; a stream of (side, example).

    A question's side depends on nothing but the question and eval_fraction: duplicates stay together
    and rows that are added later move no other row. Rows come in their order, given held-out ones first;
    of the rows themselves only data.max_samples are held in memory. Raises UserError at the end if nothing
    is left to train on.
    """
    known: set[str] | None = None
    if held_out is not None:
        known = set()
        for example in held_out:
            known.add(question_hash(example.question))
            yield "eval", example
    limit, kept = recipe.data.max_samples, 0
    chosen: list[tuple[int, int, Example]] = []  # a heap whose top is the next to go
    for number, example in enumerate(train):
        digest = question_hash(example.question)
        if known is not None and digest in known:
            yield "left_out", example
        elif known is None and int(digest[:16], 16) / 2**64 < recipe.data.eval_fraction:
            yield "eval", example
        elif limit is None:
            kept += 1
            yield "train", example
        else:
            # Other digits than those that decide the side, so that the choice is independent of it.
            entry = (-int(digest[16:], 16), -number, example)
            if len(chosen) < limit:
                heapq.heappush(chosen, entry)
            else:
                heapq.heappushpop(chosen, entry)
    yield from (("train", example) for _, _, example in sorted(chosen, key=lambda entry: -entry[1]))
    if not kept and not chosen:
        raise UserError(
            f"{recipe.where('data.train')}: no training rows are left after the split; "
            "add rows, lower data.eval_fraction, or correct data.eval"
        )


def file_records(recipe: Recipe, key: str) -> Iterator[Record]:
    """Rows of the file in data.`key`; raises UserError naming the recipe's line if it is not there."""
    yield from stream_records(data_file(recipe, key))


def data_file(recipe: Recipe, key: str) -> Path:
    """The file in data.`key`; raises UserError naming the recipe's line if it is not there."""
    name: str = getattr(recipe.data, key)
    if not os.path.exists(name):
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: there is no file {name} (looked at {Path(name).absolute()}); "
            f"give another with data.{key}=FILE, or a Hub dataset as user/name"
        )
    return Path(name)


def is_on_hub(recipe: Recipe) -> bool:
    """Whether any of the recipe's data must be downloaded."""
    return any(is_hub_id(name) for name in (recipe.data.train, recipe.data.eval) if name)


def stream_split(
    recipe: Recipe, read: Callable[[Recipe, str], Iterable[Record]] = file_records
) -> Iterator[tuple[Side, Example]]:
    """Render, validate and split the rows that `read(recipe, "train")` and `read(recipe, "eval")` give."""
    writer = make_writer(recipe)
    held_out = render(read(recipe, "eval"), writer) if recipe.data.eval else None
    return assign_sides(render(read(recipe, "train"), writer), held_out, recipe)


def make_writer(recipe: Recipe) -> PromptWriter:
    """The prompt writer of a recipe; raises UserError naming the recipe."""
    try:
        return PromptWriter(recipe.prompt)
    except UserError as error:
        raise UserError(f"{recipe.path}: {error}") from error
