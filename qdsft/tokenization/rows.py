"""Training rows: token ids, of which only the answer's carry loss."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from qdsft.data.examples import Example
from qdsft.errors import UserError
from qdsft.tokenization.chat_template import check_bos, refuse_special_tokens, render_texts
from qdsft.tokenization.prompt_boundary import Seams
from qdsft.tokenization.word_cache import TOKEN_BYTES, as_bytes

IGNORED = -100
"""The label of a token that carries no loss."""


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


@dataclass(frozen=True)
class Block:
    """Rows one behind the other."""

    ids: NDArray[np.int32]
    """Of all rows, `[token]`."""
    lengths: NDArray[np.int64]
    """Tokens of each row, `[row]`."""
    prompts: NDArray[np.int64]
    """How many of them are prompt, `[row]`."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Block:
        """The same rows."""
        return cls.of_bytes([as_bytes(row.input_ids) for row in rows], [row.prompt_length for row in rows])

    @classmethod
    def of_bytes(cls, all_ids: Sequence[bytes], prompts: Sequence[int]) -> Block:
        """Rows whose ids are given as `pieces.as_bytes`, with their prompts' numbers of tokens."""
        lengths = np.fromiter(map(len, all_ids), np.int64, len(all_ids)) // TOKEN_BYTES
        return cls(np.frombuffer(b"".join(all_ids), np.int32), lengths, np.array(prompts, np.int64))

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where each row begins in `ids`, and where the last one ends, `[row + 1]`."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def labels(self) -> NDArray[np.int32]:
        """As `ids` where the token belongs to a completion, IGNORED elsewhere, `[token]`."""
        position = np.arange(len(self.ids)) - np.repeat(self.ends[:-1], self.lengths)
        return np.where(position < np.repeat(self.prompts, self.lengths), np.int32(IGNORED), self.ids)

    def count(self, token: int) -> list[int]:
        """How often it stands in each row."""
        positions = np.flatnonzero(self.ids == token)
        counts: list[int] = np.diff(np.searchsorted(positions, self.ends)).tolist()
        return counts

    def unended(self, stops: Collection[int]) -> list[int]:
        """Indices of rows that are all prompt or whose last token is none of these."""
        ended = self.lengths > self.prompts
        ended[ended] = np.isin(self.ids[self.ends[1:][ended] - 1], list(stops))
        found: list[int] = np.flatnonzero(~ended).tolist()
        return found

    def rows(self) -> Iterator[Row]:
        """One by one."""
        return map(self.row, range(len(self.lengths)))

    def row(self, index: int) -> Row:
        """One of them."""
        start, end = self.ends[index : index + 2]
        return Row(self.ids[start:end].tolist(), int(self.prompts[index]))


class RowMaker:
    """Renders and tokenizes examples and finds the end of their prompts; every row is tokenized once (see `seams`)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> None:
        self.tokenizer = tokenizer
        self._stops = frozenset(stop_ids)
        self._seams = Seams(tokenizer)

    def make(self, examples: Sequence[Example]) -> Block:
        """A row for each example, however long.

        Raises UserError, naming file and line, for a row without a supervised token, a row whose answer
        does not end in a stop token, and a prompt whose ids change once an answer follows it.
        """
        answered = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in examples]
        refuse_special_tokens(self.tokenizer, answered, [example.record.source for example in examples])
        texts = render_texts(self.tokenizer, answered, add_generation_prompt=False)
        block = Block.of_bytes(*self._seams.tokenize(examples, texts))
        check_bos(self.tokenizer, texts, block.count)
        for row in block.unended(self._stops):
            self._check_end(block.row(row).answer_ids, examples[row])
        return block

    def _check_end(self, answer_ids: list[int], example: Example) -> None:
        source = example.record.source
        if not answer_ids:
            raise UserError(f"{source}: no token of this row carries loss; the chat template drops the answer")
        last = last_token(self.tokenizer, answer_ids, self._stops)
        if last not in self._stops:
            raise UserError(
                f"{source}: the answer ends in {self.tokenizer.decode([last])!r}, where generation does not stop; end "
                f"the assistant turn of the chat template with {self.tokenizer.eos_token!r}"
            )


def last_token(tokenizer: PreTrainedTokenizerBase, answer_ids: Sequence[int], stops: Collection[int]) -> int:
    """What an answer ends in: its last token but for blanks, such as the line break that ChatML writes after that."""
    last = len(answer_ids) - 1
    while last > 0 and answer_ids[last] not in stops and not tokenizer.decode([answer_ids[last]]).strip():
        last -= 1
    return answer_ids[last]
