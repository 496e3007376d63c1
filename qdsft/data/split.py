"""Split rendered rows into training and evaluation rows without leaks."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from qdsft.data.examples import Digest, Example
from qdsft.data.mix import epoch_rows, repeats
from qdsft.data.record import Record
from qdsft.data.sources import file_records, train_weights
from qdsft.data.task import make_task
from qdsft.data.text import question_hash
from qdsft.errors import UserError
from qdsft.recipe import Recipe

Side = Literal["train", "eval", "left_out"]
"""left_out: a training row whose question is also in data.eval."""


class SplitTally:
    """Count and fingerprint the rows of a split while they are streamed, for run.json."""

    def __init__(self) -> None:
        self.rows: Counter[Side] = Counter()
        self._origins: Counter[str] = Counter()
        self._digests = {side: Digest() for side in ("train", "eval")}

    def add(self, side: Side, example: Example) -> None:
        """Add one row."""
        self.rows[side] += 1
        if side == "train":
            self._origins[origin(example)] += 1
        if side != "left_out":
            self._digests[side].add(example)

    def summary(self) -> dict[str, Any]:
        """Return counts and SHA-256 of both sides."""
        return {
            "train_rows": self.rows["train"],
            "eval_rows": self.rows["eval"],
            "left_out": self.rows["left_out"],
            **({"train_sources": self._sources()} if len(self._origins) > 1 else {}),
            "train_sha256": self._digests["train"].hexdigest(),
            "eval_sha256": self._digests["eval"].hexdigest(),
        }

    def _sources(self) -> dict[str, int]:
        """Return name without folders -> training rows."""
        found: Counter[str] = Counter()
        for name, count in self._origins.items():
            found[name if name.endswith("]") else Path(name).name] += count
        return dict(found)


def assign_sides(
    train: Iterable[Example], held_out: Iterable[Example] | None, recipe: Recipe
) -> Iterator[tuple[Side, Example]]:
    """Yield (side, example): hold out examples by a hash of the question, or use the given ones.

    The side depends only on the question and eval_fraction, so duplicates stay together and rows added later move no
    other row. Rows keep their order, after the given held-out rows. At most data.max_samples rows are held in memory.
    Raises UserError at the end if no row is left to train on.
    """
    known: set[str] | None = None
    if held_out is not None:
        known = set()
        for example in held_out:
            known.add(question_hash(example.question))
            yield "eval", example
    limit, kept = recipe.data.max_samples, 0
    chosen: list[tuple[int, int, Example]] = []  # a heap: its first entry is dropped next
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
            # Not the digits that decide the side, so that the choice does not depend on the side.
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


def nothing_held_out(recipe: Recipe, train_rows: int, eval_rows: int) -> str | None:
    """Return the line that says that evaluation will have no rows; None if it has some."""
    if eval_rows:
        return None
    given = f"{recipe.data.eval} has none" if recipe.data.eval else f"data.eval_fraction {recipe.data.eval_fraction:g}"
    return (
        f"evaluation: no row is held out ({train_rows} rows, {given}), so there is nothing to evaluate; add rows, "
        "raise data.eval_fraction, or set data.eval=FILE"
    )


def stream_split(
    recipe: Recipe,
    read: Callable[[Recipe, str], Iterable[Record]] = file_records,
    on_example: Callable[[str, Example], object] = lambda key, example: None,
) -> Iterator[tuple[Side, Example]]:
    """Render, validate and split the rows of `read(recipe, "train")` and `read(recipe, "eval")`.

    The default reads files only; pass `sources.read_rows` to download Hub datasets as well. `on_example` is called
    once with "train" or "eval" and each row, in the order of the files, before the row is split.
    """
    task = make_task(recipe)

    def examples(key: str, seen: Callable[[str, Example], object] | None) -> Iterator[Example]:
        for record in read(recipe, key):
            example = task.example(record)
            if seen:
                seen(key, example)
            yield example

    def split(seen: Callable[[str, Example], object] | None = None) -> Iterator[tuple[Side, Example]]:
        held_out = examples("eval", seen) if recipe.data.eval else None
        return assign_sides(examples("train", seen), held_out, recipe)

    if len(recipe.data.train_sources) == 1:
        return split(on_example)
    return _mixed(split(on_example), split, train_weights(recipe))


def _mixed(
    first: Iterator[tuple[Side, Example]],
    split: Callable[[], Iterator[tuple[Side, Example]]],
    weights: Mapping[str, float],
) -> Iterator[tuple[Side, Example]]:
    """Yield the rows of a split, with training rows as often as the weights of their sources ask for.

    The rows are read twice, `first` and by `split`: how often a row occurs depends on how many there are.
    """
    keys: dict[str, list[str]] = {name: [] for name in weights}
    for side, example in first:
        if side == "train":
            keys[origin(example)].append(question_hash(example.question)[16:])
    sizes = epoch_rows({name: len(found) for name, found in keys.items()}, weights)
    times = {name: iter(repeats(keys[name], size)) for name, size in sizes.items()}
    for side, example in split():
        for _ in range(next(times[origin(example)]) if side == "train" else 1):
            yield side, example


def origin(example: Example) -> str:
    """Return the file or Hub dataset that a row was read from."""
    return example.record.source.rpartition(":")[0]
