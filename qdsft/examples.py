"""Examples for training and for evaluation: rendered rows, split without leaks."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.data import is_hub_id, read_records
from qdsft.errors import UserError
from qdsft.prompt import Message, PromptWriter
from qdsft.recipe import Recipe
from qdsft.record import Record


@dataclass(frozen=True)
class Example:
    """One row with its messages and the answer to learn."""

    record: Record
    messages: tuple[Message, ...]
    completion: str

    @property
    def question(self) -> str:
        """The user message; its hash decides on which side of the split the row falls."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class Split:
    """Training and held-out examples that share no question."""

    train: tuple[Example, ...]
    eval: tuple[Example, ...]
    left_out: int = 0
    """Training rows dropped because their question stands in the eval file."""

    def summary(self) -> dict[str, Any]:
        """Counts and fingerprints, for run.json."""
        return {
            "train_rows": len(self.train),
            "eval_rows": len(self.eval),
            "left_out": self.left_out,
            "train_sha256": fingerprint(self.train),
            "eval_sha256": fingerprint(self.eval),
        }


def question_hash(question: str) -> str:
    """SHA-256 of a question without regard to case, width, spacing and Unicode composition."""
    normal = " ".join(unicodedata.normalize("NFKC", question).casefold().split())
    return hashlib.sha256(normal.encode("utf-8")).hexdigest()


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over messages and answers, in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.messages, example.completion], ensure_ascii=False).encode("utf-8"))
    return digest.hexdigest()


def render(records: Sequence[Record], writer: PromptWriter) -> list[Example]:
    """Render and validate every row; raises UserError for the first that is unusable."""
    return [Example(record, tuple(writer.messages(record)), writer.completion(record)) for record in records]


def split_examples(train: Sequence[Example], held_out: Sequence[Example] | None, recipe: Recipe) -> Split:
    """Hold out examples by a hash of the question, or use the given ones.

    A question's side depends on nothing but the question and eval_fraction: duplicates stay together
    and rows that are added later move no other row. Raises UserError if nothing is left to train on.
    """
    hashes = [question_hash(example.question) for example in train]
    if held_out is None:
        threshold = recipe.data.eval_fraction
        is_eval = [int(digest[:16], 16) / 2**64 < threshold for digest in hashes]
        evaluation = [example for example, out in zip(train, is_eval, strict=True) if out]
    else:
        known = {question_hash(example.question) for example in held_out}
        is_eval = [digest in known for digest in hashes]
        evaluation = list(held_out)
    kept = [(digest, example) for digest, example, out in zip(hashes, train, is_eval, strict=True) if not out]
    if not kept:
        raise UserError(
            f"{recipe.where('data.train')}: no training rows are left after the split; "
            "add rows, lower data.eval_fraction, or correct data.eval"
        )
    if recipe.data.max_samples is not None and len(kept) > recipe.data.max_samples:
        # Other digits than those that decide the side, so that the choice is independent of it.
        chosen = sorted(range(len(kept)), key=lambda i: (kept[i][0][16:], i))[: recipe.data.max_samples]
        kept = [kept[i] for i in sorted(chosen)]
    left_out = sum(is_eval) if held_out is not None else 0
    return Split(tuple(example for _, example in kept), tuple(evaluation), left_out)


def read_file_records(recipe: Recipe, key: str) -> list[Record]:
    """Rows of the file in data.`key`; raises UserError naming the recipe's line if it is not there."""
    name: str = getattr(recipe.data, key)
    if not os.path.exists(name):
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: there is no file {name} (looked at {Path(name).absolute()}); "
            "correct the path, or give a Hub dataset as user/name"
        )
    return read_records(Path(name))


def check_examples(recipe: Recipe) -> Split | None:
    """Everything that can be said of the data offline; None if it lies on the Hub."""
    if any(is_hub_id(name) for name in (recipe.data.train, recipe.data.eval) if name):
        make_writer(recipe)
        return None
    return make_split(recipe, read_file_records)


def make_split(recipe: Recipe, read: Callable[[Recipe, str], list[Record]]) -> Split:
    """Render, validate and split the rows that `read(recipe, "train")` and `read(recipe, "eval")` give."""
    writer = make_writer(recipe)
    train = render(read(recipe, "train"), writer)
    held_out = render(read(recipe, "eval"), writer) if recipe.data.eval else None
    return split_examples(train, held_out, recipe)


def make_writer(recipe: Recipe) -> PromptWriter:
    """The prompt writer of a recipe; raises UserError naming the recipe."""
    try:
        return PromptWriter(recipe.prompt)
    except UserError as error:
        raise UserError(f"{recipe.path}: {error}") from error
