"""Examples as training rows that keep to a length, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from qdsft.data.examples import Example
from qdsft.errors import UserError
from qdsft.tokenization.rows import Block, Row, RowMaker

BATCH = 1000
"""Rows that are rendered and tokenized together."""


@dataclass
class Counts:
    """What became of the rows of one side."""

    rows: int = 0
    tokens: int = 0
    supervised: int = 0
    shortest: int = 0
    longest: int = 0
    dropped: int = 0
    truncated: int = 0

    def add(self, block: Block) -> None:
        """Count rows that are kept."""
        if not len(block.lengths):
            return
        shortest = int(block.lengths.min())
        self.shortest = min(self.shortest, shortest) if self.rows else shortest
        self.longest = max(self.longest, int(block.lengths.max()))
        self.rows += len(block.lengths)
        self.tokens += len(block.ids)
        self.supervised += len(block.ids) - int(block.prompts.sum())

    def summary(self) -> dict[str, Any]:
        """Counts and shares, for the console and run.json."""
        share = round(self.supervised / max(self.tokens, 1), 4)
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "shortest": self.shortest,
            "longest": self.longest,
            "supervised_share": share,
            "dropped": self.dropped,
            "truncated": self.truncated,
        }


@dataclass
class Encoder:
    """Sees to it that rows keep to `max_length`, batch after batch."""

    maker: RowMaker
    max_length: int | None
    overlength: str
    counts: Counts = field(default_factory=Counts)
    _worst: tuple[int, str, int] = (0, "", 0)
    """Tokens and source of the longest row over max_length, and the number of such rows."""
    _seen: int = 0

    def encode(self, examples: Sequence[Example]) -> list[tuple[Row, Example]]:
        """The rows that are kept, in order, with the example as it was used (`truncate` shortens it).

        Raises UserError as `RowMaker.make` does, and for a row that is too long even without its user text.
        """
        block, kept = self.keep(self.maker.make(examples), examples)
        return list(zip(block.rows(), kept, strict=True))

    def keep(self, block: Block, examples: Sequence[Example]) -> tuple[Block, Sequence[Example]]:
        """As `encode`, for rows that are made already."""
        self._seen += len(examples)
        if self.max_length is not None and len(examples) and block.lengths.max() > self.max_length:
            pairs = zip(block.rows(), examples, strict=True)
            kept = [pair for row, example in pairs if (pair := self._fit(row, example, self.max_length))]
            block, examples = Block.of([row for row, _ in kept]), [example for _, example in kept]
        self.counts.add(block)
        return block, examples

    def finish(self) -> None:
        """To be called behind the last row: with overlength "error", raises UserError if any was too long."""
        length, source, count = self._worst
        if count:
            raise UserError(
                f"{source}: {length} tokens, more than training.max_length {self.max_length} ({count} of {self._seen} "
                "rows are too long); raise training.max_length, or set data.overlength to drop or truncate"
            )

    def _fit(self, row: Row, example: Example, max_length: int) -> tuple[Row, Example] | None:
        length = len(row.input_ids)
        if length <= max_length:
            return row, example
        if self.overlength == "error":
            longest, source, count = self._worst
            if length > longest:
                longest, source = length, example.record.source
            self._worst = (longest, source, count + 1)
            return None
        if self.overlength == "drop":
            self.counts.dropped += 1
            return None
        self.counts.truncated += 1
        return self._shorten(row, example, max_length)

    def _shorten(self, row: Row, example: Example, max_length: int) -> tuple[Row, Example]:
        """Cut the end of the user text until the row fits; the completion stays whole."""
        question = example.question
        tokenizer = self.maker.tokenizer
        offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        keep = len(offsets)
        while len(row.input_ids) > max_length:
            keep -= len(row.input_ids) - max_length
            text = question[: offsets[keep - 1][1]].rstrip() if keep > 0 else ""
            if not text:
                raise UserError(
                    f"{example.record.source}: the row has more than training.max_length {max_length} tokens even "
                    "without its user text; raise training.max_length or remove the row"
                )
            example = example._replace(messages=(*example.messages[:-1], {"role": "user", "content": text}))
            row = next(self.maker.make([example]).rows())
        return row, example


@dataclass(frozen=True)
class TokenizedRows:
    """Rows in the order of the examples, less those that `overlength: drop` removed."""

    rows: list[Row]
    examples: list[Example]
    counts: Counts


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Example],
    stop_ids: Sequence[int],
    *,
    max_length: int | None,
    overlength: str,
) -> TokenizedRows:
    """All examples at once; raises UserError as `Encoder.encode` and `Encoder.finish` do."""
    encoder = Encoder(RowMaker(tokenizer, stop_ids), max_length, overlength)
    kept = [pair for batch in in_batches(examples) for pair in encoder.encode(batch)]
    encoder.finish()
    return TokenizedRows([row for row, _ in kept], [example for _, example in kept], encoder.counts)


def in_batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Lists of at most BATCH examples."""
    stream = iter(examples)
    while batch := list(islice(stream, BATCH)):
        yield batch
