"""Decoding that can only end in a decomposition without a structural fault: a grammar masks the next token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from qdsft.data.decomposition import Decomposition
from qdsft.data.examples import Example
from qdsft.data.prompt import Message
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.inference.grammar import COMMON_TEXT, completion_pattern
from qdsft.tokenization.length_limit import encode_examples

_SAMPLE = Decomposition(("How old is A?", "서울은 #1?", "Is #1 more than #2?"))
_LONGEST_WAY = 10
"""Single-byte tokens from any state to a complete step, at most: "\\n", "20. " and a character of 4 bytes, and one
for the stop token."""


class Grammar:
    """The completions of one run, over the token ids of its tokenizer.

    `conversation` is any prompt of the run: what the chat template puts between it and the answer belongs to the
    grammar, byte for byte as it is trained. Raises UserError if llguidance is not installed, if it cannot read the
    tokenizer, or if the grammar would refuse what the run was trained to write.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], conversation: Sequence[Message]
    ) -> None:
        self._library = _import_llguidance()
        self.stop_ids = list(stop_ids)
        try:
            backend = tokenizer.backend_tokenizer.to_str()
            self._tokenizer = self._library.LLTokenizer(backend, eos_token=self.stop_ids[0], slices=[COMMON_TEXT])
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"--constrained: llguidance cannot read this tokenizer ({error}); decode without --constrained"
            ) from error
        example = Example(Record({}, "the sample"), tuple(conversation), _SAMPLE.render())
        row = encode_examples(tokenizer, [example], self.stop_ids, max_length=None, overlength="error").rows[0]
        end = next(i for i, token in enumerate(row.answer_ids) if token in self.stop_ids)
        trained = row.answer_ids[:end]
        written = self._tokenizer.decode_bytes(trained).decode("utf-8", errors="replace")
        lead, found, tail = written.partition(example.completion)
        if not found or lead.strip() or tail.strip():
            raise UserError(
                f"--constrained: the chat template writes {written[:60]!r} around an answer, which would be read as "
                "part of it; decode without --constrained"
            )
        self.shortest = len((lead + tail).encode("utf-8")) + _LONGEST_WAY
        """New tokens within which any answer can be brought to its end."""
        pattern = self._library.LLMatcher.grammar_from_regex(completion_pattern(lead, tail))
        self._start = self._library.LLMatcher(self._tokenizer, pattern)
        if self._start.is_error() or self._start.deep_copy().validate_tokens(trained) != len(trained):
            reason = self._start.get_error() or "the grammar refuses what the run was trained to write"
            raise UserError(f"--constrained: {reason}; decode without --constrained")

    @property
    def vocabulary(self) -> int:
        """Token ids that have a text; a model may have more rows than that."""
        size: int = self._tokenizer.vocab_size
        return size

    def matcher(self) -> Any:
        """A matcher at the beginning of an answer."""
        return self._start.deep_copy()

    @cached_property
    def single_bytes(self) -> torch.Tensor:
        """`[vocabulary]`: True for each token that stands for one byte."""
        found = torch.zeros(self.vocabulary, dtype=torch.bool)
        for token in range(self.vocabulary):
            if not self._tokenizer.is_special_token(token):
                found[token] = len(self._tokenizer.decode_bytes([token])) == 1
        return found


class Constraint(LogitsProcessor):
    """Masks the scores of a batch, row by row, and brings every row to its end before max_new_tokens.

    When no more than `Grammar.shortest` tokens are left, a row that may end must end; one that may not, such as
    one in the middle of a character, goes on byte by byte until it may. `forced` tells such rows from those that
    ended by themselves. A vocabulary without single bytes can still be cut off.
    """

    def __init__(self, grammar: Grammar, rows: int, prompt_width: int, max_new_tokens: int) -> None:
        self._grammar = grammar
        self._width = prompt_width
        self._max_new_tokens = max_new_tokens
        self._matchers = [grammar.matcher() for _ in range(rows)]
        self._ended = [False] * rows
        self._read = 0
        self.forced = [False] * rows
        """Of the rows at hand: whether the end was not the model's own choice."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        self._matchers = [self._matchers[row] for row in rows]
        self._ended = [self._ended[row] for row in rows]
        self.forced = [self.forced[row] for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` [rows, vocabulary] with -inf where a token may not follow `input_ids` [rows, tokens]."""
        written = input_ids.shape[1] - self._width
        for row, new in enumerate(input_ids[:, self._width + self._read :].tolist()):
            for token in new:
                self._ended[row] |= token in self._grammar.stop_ids
                if not self._ended[row]:  # behind the stop token stands padding
                    self._matchers[row].consume_token(token)
        self._read = written
        allowed = self._allowed(scores.device)
        if self._max_new_tokens - written <= self._grammar.shortest:
            wanted = scores.masked_fill(~_widened(allowed, scores.shape[1]), float("-inf")).argmax(-1)
            self._close(allowed, wanted.tolist())
        return scores.masked_fill(~_widened(allowed, scores.shape[1]), float("-inf"))

    def _allowed(self, device: torch.device) -> torch.Tensor:
        """`[rows, vocabulary]`: what the grammar lets follow; behind the end, and in a dead end, the stop tokens."""
        size = -(-self._grammar.vocabulary // 8)  # llguidance pads to whole words, of which there may be one more
        masks = [
            bytes(size) if ended or matcher.is_stopped() else matcher.compute_bitmask()[:size]
            for ended, matcher in zip(self._ended, self._matchers, strict=True)
        ]
        octets = torch.frombuffer(bytearray(b"".join(masks)), dtype=torch.uint8).to(device).view(len(masks), -1, 1)
        bits = (octets >> torch.arange(8, dtype=torch.uint8, device=device)) & 1
        allowed = bits.view(len(masks), -1)[:, : self._grammar.vocabulary].bool()
        stop_ids = self._grammar.stop_ids
        allowed[:, stop_ids] = allowed[:, stop_ids[:1]]  # llguidance knows the first alone
        # A stopped matcher is one behind which nothing can follow, or one that has failed at a limit of its own.
        empty = (~allowed.any(-1)).nonzero()[:, :1]
        allowed[empty, torch.tensor(stop_ids, device=device)] = True
        return allowed

    def _close(self, allowed: torch.Tensor, wanted: Sequence[int]) -> None:
        """Leave, in place, only what ends the rows, where `wanted` [rows] is what they would go on with."""
        for row, matcher in enumerate(self._matchers):
            if self._ended[row] or wanted[row] in self._grammar.stop_ids:
                continue
            if matcher.is_accepting():
                self.forced[row] = True
                allowed[row] = False
                allowed[row, self._grammar.stop_ids] = True
            elif (bytewise := allowed[row] & self._grammar.single_bytes.to(allowed.device)).any():
                self.forced[row] |= not bytewise[wanted[row]]
                allowed[row] = bytewise


def _widened(mask: torch.Tensor, width: int) -> torch.Tensor:
    """A model may have rows of the embedding without a token: nothing may choose them."""
    missing = width - mask.shape[1]
    return torch.nn.functional.pad(mask, (0, missing), value=False) if missing else mask


def _import_llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise UserError("--constrained needs llguidance; install it with: pip install 'qdsft[constrained]'") from error
    return llguidance
