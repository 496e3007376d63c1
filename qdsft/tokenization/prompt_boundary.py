"""Where the prompt ends in a training row, found without rendering and tokenizing the prompt again.

A row is rendered and tokenized once, with its answer. Its prompt is all of the text before what the
template makes of the answer, and the mask follows from the token that begins there. That this is what
inference will ask is seen by doing what inference does, the prompt alone, for the first rows, for every
seam between prompt and answer that was not seen before, for one row in RECHECKED, and wherever the answer
or the beginning of a token is not where it should be. These rows are tokenized whole as well, the others by
their words where the tokenizer allows it (see `pieces`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from qdsft.data.examples import Example
from qdsft.errors import UserError
from qdsft.tokenization.chat_template import encode_prompts, render_texts, token_ids
from qdsft.tokenization.word_cache import Pieces, as_bytes, tokens_before

RECHECKED = 500
"""One row of so many has its prompt rendered and encoded by itself in any case."""
JUNCTIONS = 10_000
"""Distinct seams that are remembered as checked; in data with more, the others are always checked."""
COMPARED = 32
"""First rows that are tokenized both ways in any case; if one differs, all are tokenized whole."""
BEFORE, BEHIND = 8, 4
"""Characters of prompt and answer that make a seam."""


@dataclass(frozen=True)
class Wrapping:
    """What the template writes around an answer, and the end of what it writes before."""

    generation_prompt: str
    lead: str
    close: str

    @classmethod
    def of(cls, prompt: str, text: str, completion: str) -> Wrapping | None:
        """Seen in one row; None if the answer does not stand in the text as it is."""
        lead, found, close = text[len(prompt) :].partition(completion.strip())
        return cls(prompt[-BEFORE:], lead, close) if found else None

    def prompt_end(self, text: str, completion: str) -> int | None:
        """Characters of the prompt, if the row ends in this answer, wrapped like this."""
        answer = f"{self.lead}{completion.strip()}{self.close}"
        end = len(text) - len(answer)
        return end if text.endswith(answer) and text.endswith(self.generation_prompt, 0, max(end, 0)) else None


class Seams:
    """Tokenizes the rows of one tokenizer and template, and tells how many tokens of each are prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        self._pieces = Pieces.of(self._backend)
        self._wrapping: Wrapping | None = None
        self._junctions: set[tuple[str, str]] = set()
        self._seen = 0

    def tokenize(self, examples: Sequence[Example], texts: list[str]) -> tuple[list[bytes], list[int]]:
        """(ids as `pieces.as_bytes`, prompt tokens) of rows that the template has rendered with their answers.

        Raises UserError, naming file and line, for a prompt that is not the beginning of its row, as text
        or as tokens.
        """
        if not texts:
            return [], []
        if self._wrapping is None:
            (prompt,) = render_texts(self.tokenizer, [examples[0].messages], add_generation_prompt=True)
            self._wrapping = Wrapping.of(prompt, texts[0], examples[0].completion)
        ends, alone = self._look(examples, texts)
        asked = render_texts(self.tokenizer, [examples[i].messages for i in alone], add_generation_prompt=True)
        for i, prompt in zip(alone, asked, strict=True):
            if not texts[i].startswith(prompt):
                raise _changed_prompt(examples[i])
            ends[i] = len(prompt)
        all_ids, lengths = self._encode(texts, [end or 0 for end in ends], alone)
        unclear = [i for i, length in enumerate(lengths) if length < 0]
        checked = sorted({*alone, *unclear})
        prompts = encode_prompts(self.tokenizer, [examples[i].messages for i in checked])
        for i, ids in zip(checked, prompts, strict=True):
            if not all_ids[i].startswith(as_bytes(ids)) or lengths[i] not in {-1, len(ids)}:
                raise _changed_prompt(examples[i])
            lengths[i] = len(ids)
        return all_ids, lengths

    def _encode(self, texts: list[str], ends: list[int], alone: list[int]) -> tuple[list[bytes], list[int]]:
        """Token ids, and how many lie before each end; -1 where that is not clear. Those of `alone` also whole."""
        if self._pieces is None:
            return self._encode_whole(texts, ends)
        parts = [(text[:end], text[end:]) for text, end in zip(texts, ends, strict=True)]
        encoded = self._pieces.encode(parts)
        is_first = self._seen == len(texts)
        compared = sorted({*alone, *range(min(COMPARED, len(texts)))}) if is_first else alone
        whole = self._pieces.whole([texts[i] for i in compared])
        different = [i for i, ids in zip(compared, whole, strict=True) if encoded[i][0] != ids]
        if different and is_first:
            self._pieces = None
            return self._encode_whole(texts, ends)
        if different:
            raise UserError(
                f"the tokenizer reads {texts[different[0]]!r} otherwise than word by word, which no row before it "
                "showed; report this text and the model's name"
            )
        return [ids for ids, _ in encoded], [length for _, length in encoded]

    def _encode_whole(self, texts: list[str], ends: list[int]) -> tuple[list[bytes], list[int]]:
        if self._backend is None or not texts:
            return [as_bytes(ids) for ids in token_ids(self.tokenizer, texts)], [-1] * len(texts)
        encodings = self._backend.encode_batch(texts, add_special_tokens=False)
        measured = zip(encodings, texts, ends, strict=True)
        lengths = [tokens_before(encoding, end, len(text)) for encoding, text, end in measured]
        return [as_bytes(encoding.ids) for encoding in encodings], lengths

    def _look(self, examples: Sequence[Example], texts: Sequence[str]) -> tuple[list[int | None], list[int]]:
        """Characters of each prompt, None where that is not seen, and the rows that are to be checked."""
        wrapping, junctions = self._wrapping, self._junctions
        ends: list[int | None] = []
        alone: list[int] = []
        for i, (text, example) in enumerate(zip(texts, examples, strict=True)):
            end = wrapping.prompt_end(text, example.completion) if wrapping else None
            ends.append(end)
            if end is not None:
                junction = (text[max(end - BEFORE, 0) : end], text[end : end + BEHIND])
                if junction in junctions:
                    if (self._seen + i) % RECHECKED == 0:
                        alone.append(i)
                    continue
                if len(junctions) < JUNCTIONS:
                    junctions.add(junction)
            alone.append(i)
        self._seen += len(texts)
        return ends, alone


def _changed_prompt(example: Example) -> UserError:
    return UserError(
        f"{example.record.source}: the prompt's tokens change once an answer follows, so the model would be asked "
        "something else than it was trained on; mend the chat template so that its generation prompt begins the full "
        "text"
    )
