"""Apply `training.max_length` and `data.overlength` to training rows, and count the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from transformers import PreTrainedTokenizerBase

from qdsft.data.examples import Example
from qdsft.errors import UserError
from qdsft.runs.facts import PackingFacts, TokenFacts
from qdsft.tokenization.rows import Row, RowMaker

BATCH = 1000
"""Rows that are rendered and tokenized together."""


@dataclass
class Counts:
    """Counts over the rows of one side of the split."""

    rows: int = 0
    tokens: int = 0
    supervised: int = 0
    shortest: int = 0
    longest: int = 0
    dropped: int = 0
    truncated: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Count rows that are kept."""
        if not rows:
            return
        lengths = [len(row.input_ids) for row in rows]
        self.shortest = min(lengths) if not self.rows else min(self.shortest, *lengths)
        self.longest = max(self.longest, *lengths)
        self.rows += len(rows)
        self.tokens += sum(lengths)
        self.supervised += sum(lengths) - sum(row.prompt_length for row in rows)

    def summary(self, packing: PackingFacts | None = None) -> TokenFacts:
        """Return the facts about these rows."""
        return TokenFacts(
            rows=self.rows,
            tokens=self.tokens,
            shortest=self.shortest,
            longest=self.longest,
            supervised_share=round(self.supervised / max(self.tokens, 1), 4),
            dropped=self.dropped,
            truncated=self.truncated,
            packing=packing,
        )


@dataclass
class Encoder:
    """Make rows batch by batch and apply the length limit to them."""

    maker: RowMaker
    max_length: int | None
    overlength: str
    counts: Counts = field(default_factory=Counts)
    _seen: int = 0
    _too_long: int = 0
    _longest: int = 0
    _longest_source: str = ""

    def encode(self, examples: Sequence[Example]) -> list[tuple[Row, Example]]:
        """Return the rows that are kept, in order, each with its example (`truncate` shortens the example).

        Raises UserError as `RowMaker.make` does, and for a row that is too long even without its user text.
        """
        return self.start(examples)()

    def start(self, examples: Sequence[Example]) -> Callable[[], list[tuple[Row, Example]]]:
        """Begin to `encode` examples, as `RowMaker.start` does; the returned function waits for the result."""
        rows = self.maker.start(examples)
        return lambda: self._kept(rows(), examples)

    def _kept(self, rows: Sequence[Row], examples: Sequence[Example]) -> list[tuple[Row, Example]]:
        self._seen += len(examples)
        pairs = zip(rows, examples, strict=True)
        kept = [fitting for row, example in pairs if (fitting := self._fit(row, example))]
        self.counts.add([row for row, _ in kept])
        return kept

    def finish(self) -> None:
        """Raise UserError if overlength is "error" and a row was too long; call this after the last batch."""
        if self._too_long:
            raise UserError(
                f"{self._longest_source}: {self._longest} tokens, more than training.max_length {self.max_length} "
                f"({self._too_long} of {self._seen} rows are too long); raise training.max_length, or set "
                "data.overlength to drop or truncate"
            )

    def _fit(self, row: Row, example: Example) -> tuple[Row, Example] | None:
        length = len(row.input_ids)
        if self.max_length is None or length <= self.max_length:
            return row, example
        if self.overlength == "error":
            self._too_long += 1
            if length > self._longest:
                self._longest, self._longest_source = length, example.record.source
            return None
        if self.overlength == "drop":
            self.counts.dropped += 1
            return None
        self.counts.truncated += 1
        return self._shorten(row, example, self.max_length)

    def _shorten(self, row: Row, example: Example, max_length: int) -> tuple[Row, Example]:
        """Cut the end of the user text until the row fits; the answer stays whole."""
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
            row = self.maker.make([example])[0]
        return row, example


@dataclass(frozen=True)
class TokenizedRows:
    """Rows in the order of the examples, without those that `overlength: drop` removed."""

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
    """Encode all examples; raises UserError as `Encoder.encode` and `Encoder.finish` do."""
    encoder = Encoder(RowMaker(tokenizer, stop_ids), max_length, overlength)
    kept: list[tuple[Row, Example]] = []
    stream = iter(examples)
    while batch := list(islice(stream, BATCH)):
        kept += encoder.encode(batch)
    encoder.finish()
    return TokenizedRows([row for row, _ in kept], [example for _, example in kept], encoder.counts)
