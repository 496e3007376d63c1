"""Constrained decoding: a grammar masks the next token, so that every answer is a valid decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from qdsft.data.decomposition import Decomposition
from qdsft.data.examples import Example
from qdsft.data.prompt import Message
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.inference.grammar import COMMON_TEXT, completion_pattern
from qdsft.optional_packages import require
from qdsft.tokenization.length_limit import encode_examples

_SAMPLE = Decomposition(("How old is A?", "서울은 #1?", "Is #1 more than #2?"))
_TOKENS_TO_FINISH = 10
"""Upper bound of single-byte tokens from any state to a complete step ("\\n", "20. ", a 4-byte character), plus one
for the stop token."""


class Grammar:
    """The valid completions of one run, over the token ids of its tokenizer.

    `conversation` is any prompt of the run. The text that the chat template writes between a prompt and its answer is
    part of the grammar, byte for byte as in training. Raises UserError if llguidance is not installed or cannot read
    the tokenizer, or if the grammar refuses a completion that the run was trained on.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], conversation: Sequence[Message]
    ) -> None:
        library = _import_llguidance()
        self.stop_ids = list(stop_ids)
        try:
            backend = tokenizer.backend_tokenizer.to_str()
            self._tokenizer = library.LLTokenizer(backend, eos_token=self.stop_ids, slices=[COMMON_TEXT])
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"--constrained: llguidance cannot read this tokenizer ({error}); decode without --constrained"
            ) from error
        self.vocabulary: int = self._tokenizer.vocab_size
        """Number of token ids that have a text; the model's embedding may have more rows."""
        example = Example(Record({}, "the sample"), tuple(conversation), _SAMPLE.render())
        row = encode_examples(tokenizer, [example], self.stop_ids, max_length=None, overlength="error").rows[0]
        end = next(i for i, token in enumerate(row.answer_ids) if token in self.stop_ids)
        trained = row.answer_ids[:end]
        written = self._tokenizer.decode_bytes(trained).decode("utf-8", errors="replace")
        lead, found, tail = written.partition(example.completion)
        if not found or lead.strip() or tail.strip():
            raise UserError(
                f"--constrained: the chat template writes {written[:60]!r} around an answer, which would be read as "
                "part of the answer; decode without --constrained"
            )
        self.shortest = len((lead + tail).encode("utf-8")) + _TOKENS_TO_FINISH
        """Number of new tokens within which any answer can be completed."""
        pattern = library.LLMatcher.grammar_from_regex(completion_pattern(lead, tail))
        self._start = library.LLMatcher(self._tokenizer, pattern)
        if self._start.is_error() or self._start.deep_copy().validate_tokens(trained) != len(trained):
            reason = self._start.get_error() or "the grammar refuses a completion that the run was trained on"
            raise UserError(f"--constrained: {reason}; decode without --constrained")

    def matcher(self) -> Any:
        """Return an llguidance.LLMatcher at the beginning of an answer."""
        return self._start.deep_copy()

    def allowed(self, matchers: Sequence[Any]) -> torch.Tensor:
        """Return `[matchers, vocabulary]`: True for each token that may follow.

        After the end of an answer, and where a matcher has failed, only the stop tokens may.
        """
        # llguidance.torch.apply_token_bitmask_inplace needs a C++ compiler, and 25 s to compile: unpack with numpy.
        from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask

        mask = allocate_token_bitmask(len(matchers), self.vocabulary)
        for row, matcher in enumerate(matchers):
            fill_next_token_bitmask(matcher, mask, row)
        octets = mask.numpy().view(np.uint8)
        return torch.from_numpy(np.unpackbits(octets, axis=1, count=self.vocabulary, bitorder="little")).bool()

    @cached_property
    def single_bytes(self) -> torch.Tensor:
        """`[vocabulary]`: True for each token that is one byte of text."""
        found = torch.zeros(self.vocabulary, dtype=torch.bool)
        for token in range(self.vocabulary):
            if not self._tokenizer.is_special_token(token):
                found[token] = len(self._tokenizer.decode_bytes([token])) == 1
        return found


class Constraint(LogitsProcessor):
    """Mask the scores of a batch row by row, and complete every row before max_new_tokens.

    When at most `Grammar.shortest` tokens are left, a row that may end must end. A row that may not end yet, for
    example in the middle of a character, continues with single-byte tokens until it may. With a vocabulary without
    single bytes a row can still be cut off.
    """

    def __init__(self, grammar: Grammar, rows: int, prompt_width: int, max_new_tokens: int) -> None:
        self._grammar = grammar
        self._width = prompt_width
        self._max_new_tokens = max_new_tokens
        self._matchers = [grammar.matcher() for _ in range(rows)]
        self._read = 0
        self.forced = [False] * rows
        """For each row: True if the model did not choose the end itself."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._matchers = [self._matchers[row] for row in rows]
        self.forced = [self.forced[row] for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` `[rows, vocabulary]` with -inf where a token may not follow `input_ids` `[rows, tokens]`."""
        written = input_ids.shape[1] - self._width
        for matcher, new in zip(self._matchers, input_ids[:, self._width + self._read :].tolist(), strict=True):
            for token in new:
                if not matcher.is_stopped():  # after the end of a row comes padding
                    matcher.consume_token(token)
        self._read = written
        allowed = self._grammar.allowed(self._matchers)
        if self._max_new_tokens - written <= self._grammar.shortest:
            self._close(allowed, _masked(scores, allowed).argmax(-1).tolist())
        return _masked(scores, allowed)

    def _close(self, allowed: torch.Tensor, chosen: Sequence[int]) -> None:
        """Reduce `allowed`, in place, to the tokens that complete the rows; `chosen` are the model's next tokens."""
        for row, matcher in enumerate(self._matchers):
            if chosen[row] in self._grammar.stop_ids:
                continue
            if matcher.is_accepting():
                self.forced[row] = True
                allowed[row] = False
                allowed[row, self._grammar.stop_ids] = True
            elif (bytewise := allowed[row] & self._grammar.single_bytes).any():
                self.forced[row] |= not bytewise[chosen[row]]
                allowed[row] = bytewise


def _masked(scores: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Return the scores with -inf where not allowed, also in rows of the embedding that have no token."""
    missing = scores.shape[1] - allowed.shape[1]
    return scores.masked_fill(~torch.nn.functional.pad(allowed, (0, missing)).to(scores.device), float("-inf"))


def _import_llguidance() -> Any:
    require("constrained", "--constrained", "llguidance")
    import llguidance

    return llguidance
