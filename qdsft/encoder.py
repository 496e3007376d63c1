"""Training rows: token ids, of which only the answer's carry loss."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from qdsft.errors import UserError
from qdsft.examples import Example
from qdsft.seams import Seams
from qdsft.tokens import check_bos, refuse_special_tokens, render_texts

IGNORED = -100
"""The label of a token that carries no loss."""
BATCH = 1000
"""Rows that are rendered and tokenized together."""


@dataclass(frozen=True)
class Row:
    """One example as the model sees it."""

    input_ids: list[int]
    prompt_length: int
    """Tokens at the beginning, which carry no loss."""

    @property
    def answer_ids(self) -> list[int]:
        """The tokens that carry loss, the stop token among them."""
        return self.input_ids[self.prompt_length :]

    @property
    def labels(self) -> list[int]:
        """As input_ids where the token belongs to the completion, IGNORED elsewhere."""
        return [IGNORED] * self.prompt_length + self.answer_ids


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

    def add(self, row: Row) -> None:
        """Count a row that is kept."""
        length = len(row.input_ids)
        self.supervised += len(row.answer_ids)
        self.shortest = min(self.shortest, length) if self.rows else length
        self.longest = max(self.longest, length)
        self.rows += 1
        self.tokens += length

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
    """Tokenizes examples and masks their prompts, batch after batch; every row is tokenized once (see `seams`)."""

    tokenizer: PreTrainedTokenizerBase
    stop_ids: Sequence[int]
    max_length: int | None
    overlength: str
    counts: Counts = field(default_factory=Counts)
    _worst: tuple[int, str, int] = (0, "", 0)
    """Tokens and source of the longest row over max_length, and the number of such rows."""
    _seen: int = 0

    def __post_init__(self) -> None:
        self._seams = Seams(self.tokenizer)

    def encode(self, examples: Sequence[Example]) -> list[tuple[Row, Example]]:
        """The rows that are kept, in order, with the example as it was used (`truncate` shortens it).

        Raises UserError, naming file and line, for a row without a supervised token, a row whose answer
        does not end in a token of `stop_ids`, and a prompt whose ids change once an answer follows it.
        """
        kept = []
        for row, example in zip(self._rows(examples), examples, strict=True):
            fitting = self._fit(row, example)
            if fitting is not None:
                self.counts.add(fitting[0])
                kept.append(fitting)
        return kept

    def finish(self) -> None:
        """To be called behind the last row: with overlength "error", raises UserError if any was too long."""
        length, source, count = self._worst
        if count:
            raise UserError(
                f"{source}: {length} tokens, more than training.max_length {self.max_length} ({count} of {self._seen} "
                "rows are too long); raise training.max_length, or set data.overlength to drop or truncate"
            )

    def _fit(self, row: Row, example: Example) -> tuple[Row, Example] | None:
        length = len(row.input_ids)
        if self.max_length is None or length <= self.max_length:
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
        return self._shorten(row, example, self.max_length)

    def _shorten(self, row: Row, example: Example, max_length: int) -> tuple[Row, Example]:
        """Cut the end of the user text until the row fits; the completion stays whole."""
        question = example.question
        offsets = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        keep = len(offsets)
        while len(row.input_ids) > max_length:
            keep -= len(row.input_ids) - max_length
            text = question[: offsets[keep - 1][1]].rstrip() if keep > 0 else ""
            if not text:
                raise UserError(
                    f"{example.record.source}: the row has more than training.max_length {max_length} tokens even "
                    "without its user text; raise training.max_length or remove the row"
                )
            example = replace(example, messages=(*example.messages[:-1], {"role": "user", "content": text}))
            row = self._rows([example])[0]
        return row, example

    def _rows(self, examples: Sequence[Example]) -> list[Row]:
        answered = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in examples]
        refuse_special_tokens(self.tokenizer, answered, [example.record.source for example in examples])
        texts = render_texts(self.tokenizer, answered, add_generation_prompt=False)
        all_ids, lengths = self._seams.tokenize(examples, texts)
        self._seen += len(examples)
        stops = frozenset(self.stop_ids)
        rows = []
        for example, text, ids, length in zip(examples, texts, all_ids, lengths, strict=True):
            check_bos(self.tokenizer, text, ids)
            _check_end(self.tokenizer, ids, length, stops, example.record.source)
            rows.append(Row(ids, length))
        return rows


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
    encoder = Encoder(tokenizer, stop_ids, max_length, overlength)
    kept = [pair for batch in in_batches(examples) for pair in encoder.encode(batch)]
    encoder.finish()
    return TokenizedRows([row for row, _ in kept], [example for _, example in kept], encoder.counts)


def in_batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Lists of at most BATCH examples."""
    stream = iter(examples)
    while batch := list(islice(stream, BATCH)):
        yield batch


def last_token(tokenizer: PreTrainedTokenizerBase, answer_ids: Sequence[int], stops: Collection[int]) -> int:
    """What an answer ends in: its last token but for blanks, such as the line break that ChatML writes after that."""
    last = len(answer_ids) - 1
    while last > 0 and answer_ids[last] not in stops and not tokenizer.decode([answer_ids[last]]).strip():
        last -= 1
    return answer_ids[last]


def _check_end(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], prompt_length: int, stops: frozenset[int], source: str
) -> None:
    if len(ids) == prompt_length:
        raise UserError(f"{source}: no token of this row carries loss; the chat template drops the answer")
    last = last_token(tokenizer, ids[prompt_length:], stops)
    if last not in stops:
        raise UserError(
            f"{source}: the answer ends in {tokenizer.decode([last])!r}, where generation does not stop; end the "
            f"assistant turn of the chat template with {tokenizer.eos_token!r}"
        )
